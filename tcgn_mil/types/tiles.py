"""The data types that flow between stages, and their validation.

Letters for shapes: N tiles, S spots, G genes, M patients, D features. Coordinates are level-0 pixels, x then y.
Imports numpy alone, so that every layer of the package can use it; AnnData comes in lazily.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import content_hash

if TYPE_CHECKING:
    from anndata import AnnData

DEFAULT_PATCH_PX = 112
DEFAULT_PATCH_MPP = 0.69  # µm per pixel; 112 px are the 77.3 µm that TCGN was trained on
MPP_RANGE = (0.05, 20.0)  # beyond this a stated resolution is a mistake, not a scanner
MAX_UPSAMPLING = 1.5  # coarser sources than this many times the asked µm/px hold too little detail


@dataclass(frozen=True)
class PatchSize:
    """The square field an encoder sees: its stored pixels and their physical size.

    Attributes
    ----------
    px
        Side in stored pixels.
    mpp
        Micrometres per stored pixel.
    """

    px: int = DEFAULT_PATCH_PX
    mpp: float = DEFAULT_PATCH_MPP

    def __post_init__(self) -> None:
        if not 8 <= self.px <= 4096:
            raise InputError(
                f"patch size of {self.px} px is outside 8 to 4096",
                fix="give --patch-px in that range",
            )
        check_mpp(self.mpp, what="patch resolution")

    @property
    def um(self) -> float:
        """Side in micrometres."""
        return self.px * self.mpp

    def matches(self, other: PatchSize, *, tolerance: float = 0.02) -> bool:
        """Whether field of view and sharpness agree to within `tolerance` (relative)."""
        return math.isclose(self.um, other.um, rel_tol=tolerance) and math.isclose(
            self.mpp, other.mpp, rel_tol=tolerance
        )

    def __str__(self) -> str:
        return f"{self.um:.1f} µm ({self.px} px at {self.mpp:g} µm/px)"


def check_mpp(mpp: float, *, what: str = "resolution", path: object = None) -> float:
    """Return `mpp` if it is a plausible number of micrometres per pixel, else raise InputError."""
    if not (math.isfinite(mpp) and MPP_RANGE[0] <= mpp <= MPP_RANGE[1]):
        raise InputError(
            f"{what} of {mpp} µm/px is outside {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}",
            path=None if path is None else str(path),
            fix="give the scanner's micrometres per pixel, for example 0.25 (40x) or 0.5 (20x)",
        )
    return float(mpp)


@dataclass(frozen=True)
class TileSpec:
    """How one slide's tiles are laid and read; derived sizes follow from the slide's own resolution.

    Attributes
    ----------
    tile_px, mpp, stride_px
        What was asked: side and step in pixels of `mpp` µm each.
    slide_mpp
        µm per pixel of level 0.
    read_level, read_px
        The pyramid level read (the coarsest still at least as fine as `mpp`) and the side read there, in its pixels.
    level0_px, level0_stride_px
        Side and step in level-0 pixels (float: the grid is laid in µm and rounded per tile).
    """

    tile_px: int
    mpp: float
    stride_px: int
    slide_mpp: float
    read_level: int
    read_px: int
    level0_px: float
    level0_stride_px: float

    @classmethod
    def for_slide(
        cls,
        patch: PatchSize,
        *,
        slide_mpp: float,
        level_downsamples: Sequence[float],
        stride_px: int | None = None,
        max_upsampling: float = MAX_UPSAMPLING,
    ) -> TileSpec:
        """Derive the spec for a slide, never upsampling past `max_upsampling`.

        Raises
        ------
        InputError
            If the slide is coarser than ``patch.mpp * max_upsampling``, or its resolution is implausible.
        """
        check_mpp(slide_mpp, what="slide resolution")
        if slide_mpp > patch.mpp * max_upsampling:
            raise InputError(
                f"the slide has {slide_mpp:.3g} µm/px, too coarse for tiles at {patch.mpp:.3g} µm/px"
                f" (upsampling is bounded at {max_upsampling:g}x)",
                fix="use a finer scan, or a model trained at a coarser resolution",
            )
        stride = patch.px if stride_px is None else stride_px
        if stride < 1:
            raise InputError(f"stride of {stride} px", fix="give a stride of at least 1 px")
        wanted = max(patch.mpp / slide_mpp, 1.0) * (1 + 1e-3)  # tolerate 4.0003 for a level of 4x
        finer = [
            level for level, downsample in enumerate(level_downsamples) if downsample <= wanted
        ]
        level = max(finer, key=lambda index: level_downsamples[index]) if finer else 0
        level0_px = patch.um / slide_mpp
        return cls(
            tile_px=patch.px,
            mpp=patch.mpp,
            stride_px=stride,
            slide_mpp=slide_mpp,
            read_level=level,
            read_px=max(1, round(level0_px / level_downsamples[level])),
            level0_px=level0_px,
            level0_stride_px=stride * patch.mpp / slide_mpp,
        )

    @property
    def patch(self) -> PatchSize:
        """The physical field of one tile."""
        return PatchSize(self.tile_px, self.mpp)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as stored in HDF5 attributes."""
        return asdict(self)


VERDICTS = ("kept", "pen", "out of focus", "fold")


@dataclass(frozen=True)
class TileQuality:
    """Quality of N tiles, by `tcgn_mil.preprocessing.tiles.quality`.

    Attributes
    ----------
    focus
        (N,) float32, sharpness against that of the same tissue in focus: about 1 in focus, towards 0 out of it; NaN
        where there is too little tissue to tell.
    blur
        (N,) float32 in [0, 1], share of the tile's tissue that is out of focus.
    pen, fold
        (N,) float32 in [0, 1], share of the tile under ink, and under folded tissue.
    """

    focus: NDArray[np.float32]
    blur: NDArray[np.float32]
    pen: NDArray[np.float32]
    fold: NDArray[np.float32]

    def __getitem__(self, chosen: NDArray[Any]) -> TileQuality:
        return TileQuality(
            self.focus[chosen], self.blur[chosen], self.pen[chosen], self.fold[chosen]
        )


@dataclass(frozen=True)
class RejectedTiles:
    """Tiles with enough tissue that quality control left out.

    Attributes
    ----------
    coords, tissue_fraction
        As in :class:`TileSet`, (K, 2) and (K,).
    quality
        Of the K tiles.
    verdict
        (K,) uint8, positions in `VERDICTS`, none of them 0.
    """

    coords: NDArray[np.int64]
    tissue_fraction: NDArray[np.float32]
    quality: TileQuality
    verdict: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.coords)


NO_STAIN = "none"


@dataclass(frozen=True)
class Stain:
    """How a slide's colours are brought to those of a reference, by `tcgn_mil.preprocessing.tiles.stain`.

    Attributes
    ----------
    method
        macenko or reinhard.
    reference
        Base name of the reference image, or ``published``.
    target, source
        Parameters of the reference, and of the slide: the stain matrix (3, 2) row by row and two strengths (macenko),
        or three means and three standard deviations in CIELAB (reinhard).
    """

    method: str
    reference: str
    target: tuple[float, ...]
    source: tuple[float, ...]

    def __post_init__(self) -> None:
        length = {"macenko": 8, "reinhard": 6}.get(self.method)
        if length is None or not len(self.target) == len(self.source) == length:
            raise InputError(
                f"stain normalisation {self.method!r} with {len(self.target)} and {len(self.source)} parameters",
                fix="make the file again",
            )
        if not all(math.isfinite(value) for value in (*self.target, *self.source)):
            raise InputError(
                f"{self.method} has parameters that are not finite", fix="make the file again"
            )

    @property
    def identity(self) -> str:
        """Method and reference, the same for all slides that can be mixed, for example ``macenko-1a2b...``."""
        return f"{self.method}-{content_hash(list(self.target))}"


def stain_identity(stain: Stain | None) -> str:
    """`Stain.identity`, or `NO_STAIN`."""
    return NO_STAIN if stain is None else stain.identity


@dataclass(frozen=True)
class TileSet:
    """The kept tiles of one slide.

    Attributes
    ----------
    slide_id
        Name of the slide, unique in a cohort.
    coords
        (N, 2) int64, top-left corners in level-0 pixels, x then y.
    tissue_fraction
        (N,) float32 in [0, 1].
    spec
        Geometry shared by all tiles.
    slide_size
        Width and height of level 0 in pixels.
    patient_id
        Patient the slide is of; the slide's own id where nothing else is known.
    quality
        Of the kept tiles; None where it was not measured, as in other tools' files.
    rejected
        Tiles that quality control left out; None where there was none.
    stain
        Normalisation to apply when the tiles are read; None for pixels as they are.
    settings
        Rules for tissue and quality that the tiles were kept by, as the tile file records them; empty where it does
        not, as in other tools' files.
    """

    slide_id: str
    coords: NDArray[np.int64]
    tissue_fraction: NDArray[np.float32]
    spec: TileSpec
    slide_size: tuple[int, int]
    patient_id: str = ""
    quality: TileQuality | None = None
    rejected: RejectedTiles | None = None
    stain: Stain | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.patient_id:
            object.__setattr__(self, "patient_id", self.slide_id)
        if self.coords.ndim != 2 or self.coords.shape[1] != 2:
            raise InputError(
                f"tile coordinates of {self.slide_id} have shape {self.coords.shape}, not (N, 2)"
            )
        if len(self.tissue_fraction) != len(self.coords):
            raise InputError(
                f"{self.slide_id}: {len(self.coords)} tiles, {len(self.tissue_fraction)} tissue fractions"
            )

    def __len__(self) -> int:
        return len(self.coords)


@dataclass(frozen=True)
class GenePanel:
    """An ordered set of genes; its hash travels with every (·, G) array and every checkpoint."""

    genes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.genes:
            raise InputError(
                "the gene panel is empty", fix="check the panel file or the selection thresholds"
            )
        repeated = duplicates(self.genes)
        if repeated:
            raise InputError(
                f"the gene panel repeats {preview(repeated)}",
                fix="name each gene once; sum or rename duplicates",
            )

    def __len__(self) -> int:
        return len(self.genes)

    @cached_property
    def hash(self) -> str:
        """Digest of the ids in their order."""
        return content_hash(list(self.genes))

    def index_in(self, genes: Sequence[str], *, path: object = None) -> NDArray[np.int64]:
        """(G,) positions of the panel's genes within `genes`.

        Raises
        ------
        InputError
            Naming the panel genes that are missing.
        """
        position = {gene: index for index, gene in enumerate(genes)}
        missing = [gene for gene in self.genes if gene not in position]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(self)} panel genes are missing: {preview(missing)}",
                path=None if path is None else str(path),
                fix="use data with the model's genes, or a panel restricted to the genes in common",
            )
        return np.fromiter((position[gene] for gene in self.genes), dtype=np.int64, count=len(self))


@dataclass(frozen=True)
class TargetScaler:
    """Per-gene standardisation, fitted on training patients (or spots) only.

    Attributes
    ----------
    transform
        Name of the unit in which mean and std are taken, for example ``log1p(counts per 1e4)``.
    mean, std
        (G,) float32; genes constant in training have std 1, so that they stay at zero.
    """

    transform: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def fit(cls, values: NDArray[np.floating], *, transform: str) -> TargetScaler:
        """Fit on ``values`` (samples, G)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a gene that no sample knows
            mean = np.nan_to_num(np.asarray(np.nanmean(values, axis=0, dtype=np.float64)))
            std = np.asarray(np.nanstd(values, axis=0, dtype=np.float64))
        std = np.where(std > 1e-6, std, 1.0)
        return cls(transform, mean.astype(np.float32), std.astype(np.float32))

    def scale(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """(·, G) in `transform` -> standardised."""
        return ((values - self.mean) / self.std).astype(np.float32)

    def unscale(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """(·, G) standardised -> in `transform`."""
        return (values * self.std + self.mean).astype(np.float32)


@dataclass(frozen=True)
class Fold:
    """One split by id (patient, section or spot); no id is in two parts.

    Attributes
    ----------
    index
        Number of the fold.
    train, val, test
        Ids; validation may share patients with training only where PROTOCOL says so, test never does.
    """

    index: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, part in self.parts().items():
            if not part:
                raise InputError(
                    f"fold {self.index} has an empty {name} part",
                    fix="use fewer folds or more patients",
                )
        shared = duplicates([*self.train, *self.val, *self.test])
        if shared:
            raise InputError(
                f"fold {self.index} holds {preview(shared)} more than once", fix="list each id once"
            )

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Part name -> ids, in the order train, val, test."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def check_groups(self, group_of: Mapping[str, str]) -> None:
        """Raise InputError if a test id shares its group (patient) with training or validation."""
        held_out = {group_of[name] for name in self.test}
        leaked = sorted(held_out & {group_of[name] for name in (*self.train, *self.val)})
        if leaked:
            raise InputError(
                f"fold {self.index} tests on {preview(leaked)}, also used in training or validation",
                fix="keep all sections, slides and spots of a patient in one part",
            )


@dataclass
class SpotSet:
    """Spots of one section: counts and where their patches lie.

    Attributes
    ----------
    adata
        AnnData (S, G) of raw counts; obs ``patient``, ``section``; obsm["spatial"] (S, 2) level-0 spot centres,
        x then y.
    patches_path
        HDF5 in the HEST layout with ``img`` (S, px, px, 3) uint8 in the order of `adata`.
    patch
        Physical size of the stored patches.
    """

    adata: AnnData
    patches_path: str
    patch: PatchSize

    @property
    def section(self) -> str:
        """Section id."""
        return str(self.adata.obs["section"].iloc[0])

    @property
    def patient(self) -> str:
        """Patient id."""
        return str(self.adata.obs["patient"].iloc[0])


@dataclass(frozen=True)
class Failure:
    """One row of failures.csv: what was lost, where, why, and what to do."""

    slide: str
    stage: str
    reason: str
    likely_fix: str = field(default="")


def duplicates(names: Iterable[str]) -> list[str]:
    """Names that occur more than once, each once, in order of their second occurrence."""
    seen: set[str] = set()
    repeated: dict[str, None] = {}
    for name in names:
        if name in seen:
            repeated[name] = None
        seen.add(name)
    return list(repeated)


def preview(names: Sequence[str], *, most: int = 5) -> str:
    """``A, B, C and 7 more``: the first few of a list for a one-line message."""
    shown = ", ".join(str(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
