"""Tiles of one slide: coordinates, tissue fraction, quality and stain normalisation.

Coordinates are pixels of the slide's level 0, x first and y second.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.text import content_hash
from tcgn_mil.types.tile_geometry import TileSpec

VERDICTS = ("kept", "pen", "out of focus", "fold")
NO_STAIN = "none"

# Macenko: a stain matrix of 3 x 2 values and two strengths. Reinhard: three means and three
# standard deviations in CIELAB.
_STAIN_PARAMETERS = {"macenko": 8, "reinhard": 6}


@dataclass(frozen=True)
class TileQuality:
    """Measured quality of N tiles (see :mod:`tcgn_mil.preprocessing.tiles.quality`).

    Attributes
    ----------
    focus
        (N,) float32. Sharpness relative to the same tissue in focus: about 1 in focus, towards 0
        out of focus, NaN if the tile has too little tissue to measure it.
    blur
        (N,) float32 in [0, 1]. Share of the tile's tissue that is out of focus.
    pen
        (N,) float32 in [0, 1]. Share of the tile that is covered by pen ink.
    fold
        (N,) float32 in [0, 1]. Share of the tile that is folded tissue.
    """

    focus: NDArray[np.float32]
    blur: NDArray[np.float32]
    pen: NDArray[np.float32]
    fold: NDArray[np.float32]

    def __getitem__(self, rows: NDArray[Any]) -> TileQuality:
        return TileQuality(self.focus[rows], self.blur[rows], self.pen[rows], self.fold[rows])


@dataclass(frozen=True)
class RejectedTiles:
    """Tiles with enough tissue that quality control removed.

    Attributes
    ----------
    coords
        (K, 2) int64. Top-left corners in level-0 pixels, x then y.
    tissue_fraction
        (K,) float32 in [0, 1].
    quality
        Quality of the K tiles.
    verdict
        (K,) uint8. Reason of the removal, as a position in `VERDICTS`; never 0 (kept).
    """

    coords: NDArray[np.int64]
    tissue_fraction: NDArray[np.float32]
    quality: TileQuality
    verdict: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.coords)


@dataclass(frozen=True)
class Stain:
    """Parameters that normalise the colours of one slide to a reference image.

    The parameters are fitted by :mod:`tcgn_mil.preprocessing.tiles.stain`.

    Attributes
    ----------
    method
        ``macenko`` or ``reinhard``.
    reference
        File name of the reference image, or ``published`` for the published parameters.
    target
        Parameters of the reference: for Macenko the (3, 2) stain matrix row by row and two
        strengths, for Reinhard three means and three standard deviations in CIELAB.
    source
        The same parameters of the slide.
    """

    method: str
    reference: str
    target: tuple[float, ...]
    source: tuple[float, ...]

    def __post_init__(self) -> None:
        expected = _STAIN_PARAMETERS.get(self.method)
        if expected is None or not len(self.target) == len(self.source) == expected:
            raise InputError(
                f"stain normalisation {self.method!r} with {len(self.target)} parameters of the"
                f" reference and {len(self.source)} of the slide is not known",
                fix="make the file again",
            )
        if not all(math.isfinite(value) for value in (*self.target, *self.source)):
            raise InputError(
                f"a parameter of the {self.method} stain normalisation is not finite",
                fix="make the file again",
            )

    @property
    def identity(self) -> str:
        """Method and hash of the reference, for example ``macenko-1a2b...``.

        Slides with the same identity were normalised to the same reference, so that their
        features can be used together.
        """
        return f"{self.method}-{content_hash(list(self.target))}"


def stain_identity(stain: Stain | None) -> str:
    """Return :attr:`Stain.identity`, or `NO_STAIN` if the colours were not normalised."""
    return NO_STAIN if stain is None else stain.identity


@dataclass(frozen=True)
class TileSet:
    """Tiles of one slide that are used, with their geometry.

    Parameters
    ----------
    slide_id
        Name of the slide, unique in a cohort.
    coords
        (N, 2) int64. Top-left corners in level-0 pixels, x then y.
    tissue_fraction
        (N,) float32 in [0, 1].
    spec
        Geometry that all tiles share.
    slide_size
        Width and height of level 0 in pixels.
    patient_id
        Patient of the slide. An empty string means that the slide's own name is used.
    quality
        Quality of the tiles. None if it was not measured, as in files of other tools.
    rejected
        Tiles that quality control removed. None if there was no quality control.
    stain
        Normalisation that is applied when pixels are read. None to read pixels unchanged.
    settings
        Rules for tissue and quality by which the tiles were chosen, as stored in the tile file.
        Empty if the file does not state them, as in files of other tools.
    notes
        Facts about the slide file that a user should know, for example its other images.
    slide_digest
        Digest of the slide that the tiles were laid on. Empty if the file does not state it, as in
        files of other tools.

    Raises
    ------
    InputError
        If the arrays have wrong shapes.
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
    notes: tuple[str, ...] = ()
    slide_digest: str = ""

    def __post_init__(self) -> None:
        if not self.patient_id:
            object.__setattr__(self, "patient_id", self.slide_id)
        if self.coords.ndim != 2 or self.coords.shape[1] != 2:
            raise InputError(
                f"tile coordinates of slide {self.slide_id} have shape {self.coords.shape},"
                " not (N, 2)"
            )
        if len(self.tissue_fraction) != len(self.coords):
            raise InputError(
                f"slide {self.slide_id} has {len(self.coords)} tiles, but"
                f" {len(self.tissue_fraction)} tissue fractions"
            )

    def __len__(self) -> int:
        return len(self.coords)

    def select(self, rows: slice | list[int] | NDArray[Any]) -> TileSet:
        """Select tiles of the slide.

        Parameters
        ----------
        rows
            A slice, a list of row numbers, or an (N,) bool mask. The result has the tiles in this
            order.

        Returns
        -------
        TileSet
            The selected tiles. `rejected` is None, because rejected tiles belong to the whole
            slide and not to a selection.
        """
        index = np.arange(len(self))[rows]
        return dataclasses.replace(
            self,
            coords=self.coords[index],
            tissue_fraction=self.tissue_fraction[index],
            quality=None if self.quality is None else self.quality[index],
            rejected=None,
        )
