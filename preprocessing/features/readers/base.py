"""Features of another tool before they are imported, and the checks that all layouts share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.readers.feature_rows import FeatureRows
from tcgn_mil.preprocessing.interop.readers.base import MAX_TILES

Level = Literal["tile", "slide", "patient"]
TILE: Level = "tile"
SLIDE: Level = "slide"
PATIENT: Level = "patient"
MAX_WIDTH = 65_536
_MAX_POSITION = 1e8
MAX_BYTES = 64 * 2**30  # of one slide's features, or of a file that holds them
BLOCK_BYTES = 16 * 2**20


@dataclass(frozen=True, eq=False)
class ForeignFeatures:
    """Features that another tool computed for one slide, checked but not yet read.

    Attributes
    ----------
    layout
        Name of the layout: ``clam``, ``trident``, ``stamp`` or ``numpy``.
    features
        (N, D) float16 or float32, with N and D at least 1, read in slices. N is 1 for a vector of a
        slide or of a patient.
    coords
        (N, 2) top-left corners of the tiles, as integer level-0 pixels or, for STAMP, in µm. None
        if the file has no positions.
    encoder
        Name of the encoder in the file, or an empty string if the file does not name it.
    patch_px
        Side of a tile in the pixels that the encoder received. None if the file does not say.
    patch_um
        Side of a tile in µm. None if the file does not say.
    level0_px
        Side of a tile in level-0 pixels. None if the file does not say.
    stride_px
        Distance between neighbouring tiles, in the same pixels as `patch_px`. None if the file
        does not say.
    level
        What a row of the features describes: a ``tile``, a whole ``slide``, or all slides of a
        ``patient``.

    Examples
    --------
    >>> features = ForeignFeatures("clam", np.zeros((3, 8), np.float32), coords=None)
    >>> [block.shape for block in features.blocks()]
    [(3, 8)]
    >>> ForeignFeatures("stamp", np.zeros((1, 8), np.float32), None, level="slide").kind
    'stamp-slide'
    """

    layout: str
    features: FeatureRows | NDArray[np.floating]
    coords: NDArray[Any] | None
    encoder: str = ""
    patch_px: int | None = None
    patch_um: float | None = None
    level0_px: float | None = None
    stride_px: int | None = None
    level: Level = "tile"

    @property
    def kind(self) -> str:
        """First part of the encoder's identity.

        It names the level, so that no model reads vectors of slides beside features of tiles.
        """
        return self.layout if self.level == TILE else f"{self.layout}-{self.level}"

    def blocks(self) -> Iterator[NDArray[np.floating]]:
        """Yield consecutive rows of the features in blocks of about 16 MiB."""
        rows, width = self.features.shape
        step = max(1, BLOCK_BYTES // (width * self.features.dtype.itemsize))
        for first in range(0, rows, step):
            yield np.asarray(self.features[first : first + step])


@dataclass(frozen=True)
class FeatureReader:
    """A layout of feature files.

    Attributes
    ----------
    name
        Name of the layout. It becomes the first part of the encoder's identity, for example
        ``trident:uni_v1``.
    suffixes
        Lower-case suffixes of its files, with the dot.
    is_layout
        Returns whether a file with one of the suffixes is of this layout. It may raise InputError
        for a file that cannot be opened.
    open
        Context manager that gives the checked features; they can be read while it is open.
    """

    name: str
    suffixes: tuple[str, ...]
    is_layout: Callable[[Path], bool]
    open: Callable[[Path], AbstractContextManager[ForeignFeatures]]


def check_features(shape: tuple[int, ...], dtype: np.dtype, *, path: str | Path) -> None:
    """Check that features are (N, D) in floating point and within the limits of this module.

    Raises
    ------
    InputError
        If there is no tile, the shape or the dtype is another one, or the array is too large.
    """
    if shape and not math.prod(shape):
        raise InputError(
            "holds no tile",
            path=path,
            fix="check the tissue mask that the other tool made of this slide, or remove this file",
        )
    if len(shape) != 2:
        raise InputError(
            f"features have shape {shape}, not (N, D)",
            path=path,
            fix="save them with one row for each tile and no other axis, for example by reshape"
            "(-1, D)",
        )
    if dtype not in (np.float16, np.float32, np.float64):
        raise InputError(
            f"features are {dtype}, not float16 or float32",
            path=path,
            fix="cast them to float32 and save the file again, if they are features",
        )
    if (
        shape[0] > MAX_TILES
        or shape[1] > MAX_WIDTH
        or math.prod(shape) * dtype.itemsize > MAX_BYTES
    ):
        raise InputError(
            f"features have shape {shape}, which is over {MAX_TILES} tiles, a width of {MAX_WIDTH}"
            f" or {MAX_BYTES // 2**30} GiB",
            path=path,
            fix="check that it is a feature file",
        )


def check_coords_shape(coords: NDArray[Any], rows: int, *, path: str | Path) -> None:
    """Check that coordinates are numbers (`rows`, 2) that can be positions.

    Raises
    ------
    InputError
        If the shape or the dtype is another one, or a value is not finite or too large.
    """
    if coords.shape != (rows, 2) or coords.dtype.kind not in "iuf":
        raise InputError(
            f"coords are {coords.dtype} {coords.shape} for {rows} tiles",
            path=path,
            fix="save one row of x and y for each row of the features",
        )
    if not (np.abs(coords.astype(np.float64)) <= _MAX_POSITION).all():
        raise InputError(
            "coords hold values that are not positions",
            path=path,
            fix="save the level-0 pixels of each tile's top-left corner",
        )
