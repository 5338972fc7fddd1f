"""The data types that flow between stages, and their validation.

Letters for shapes: N tiles, S spots, G genes, M patients, D features. Coordinates are level-0 pixels, x then y.
Imports numpy alone, so that every layer of the package can use it; AnnData comes in lazily.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.text import content_hash
from tcgn_mil.types.tile_geometry import TileSpec

if TYPE_CHECKING:
    pass


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
