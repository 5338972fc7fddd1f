"""Checkpoints: weights and what they mean in one safetensors file, with the same JSON beside it for people.

The file's header carries genes, target statistics, physical tile size and provenance, so weights and meaning cannot
part; loading is strict. An encoder's tensors are exactly its ``state_dict``, so ``create_encoder(checkpoint=...)``
reads it too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tcgn_mil.errors import InputError

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


def check_patch(expected: PatchSize, found: PatchSize, *, allow: bool = False) -> None:
    """Refuse tiles of another physical size than a model was trained on, unless `allow`.

    Raises
    ------
    InputError
        Naming both sizes.
    """
    if not allow and not expected.matches(found):
        raise InputError(
            f"the model was trained on patches of {expected}, these are {found}",
            fix=f"tile with --patch-px {expected.px} --patch-mpp {expected.mpp:g}, or pass --allow-other-size",
        )
