"""Slides whose pyramid levels are lazy arrays, and the one rule for their pixels.

OME-TIFF and OME-Zarr store the same pixels in other files. Both are read here, so that grey, planar
and 16-bit pixels, transparency and the edges of a slide are treated alike.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import Slide, on_white

PRIMARIES = (["red", "green", "blue"], ["r", "g", "b"])
"""Names of three channels that are RGB, in lower case."""
_CHANNELS = ("C", "S")


class ArrayPyramid(Slide):
    """A slide whose levels are arrays that read parts of themselves, as those of zarr do.

    A subclass calls :meth:`_set_levels`, and implements :meth:`_damaged` and `close`.

    Attributes
    ----------
    errors
        Exceptions that an array raises for damaged files.
    """

    errors: tuple[type[Exception], ...] = (OSError, ValueError)

    def _set_levels(self, arrays: Sequence[Any], axes: str, *, drop_alpha: bool = False) -> None:
        """Take the arrays of the levels, finest first, and derive the sizes from them.

        Parameters
        ----------
        arrays
            Arrays of 8 or 16 bits.
        axes
            Letter of each axis: Y and X, S or C for the channels, and T and Z of length 1.
        drop_alpha
            Whether the fourth channel is of no stated kind, and is not read as transparency.
        """
        self._levels, self._axes, self._drop_alpha = tuple(arrays), axes, drop_alpha
        self.bits = 8 * self._levels[0].dtype.itemsize
        row, column = axes.index("Y"), axes.index("X")
        self.level_sizes = tuple(
            (int(array.shape[column]), int(array.shape[row])) for array in self._levels
        )
        self.size = self.level_sizes[0]
        self.level_downsamples = tuple(
            (self.size[0] / width + self.size[1] / height) / 2 for width, height in self.level_sizes
        )

    def _read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]:
        left, top = (round(start / self.level_downsamples[level]) for start in (x0, y0))
        width, height = self.level_sizes[level]
        out = np.full((height_px, width_px, 3), 255, dtype=np.uint8)
        first_column, last_column = max(left, 0), min(left + width_px, width)
        first_row, last_row = max(top, 0), min(top + height_px, height)
        if first_column < last_column and first_row < last_row:
            rows, columns = slice(first_row, last_row), slice(first_column, last_column)
            try:
                inside = self._as_rgb(self._region(level, rows, columns))
            except self.errors as error:
                raise self._damaged(error) from error
            out[first_row - top : last_row - top, first_column - left : last_column - left] = inside
        return out

    def _region(self, level: int, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a region as (h, w, channels), or as (h, w) if there is one channel."""
        places: dict[str, Any] = {"Y": rows, "X": columns, "T": 0, "Z": 0}
        where = tuple(places.get(axis, slice(None)) for axis in self._axes)
        region = np.asarray(self._levels[level][where])
        left = [axis for axis in self._axes if axis not in "TZ"]
        channels = next((place for place, axis in enumerate(left) if axis in _CHANNELS), None)
        if channels is None:
            return region
        moved = np.moveaxis(region, channels, -1)
        return moved[..., 0] if moved.shape[-1] == 1 else moved

    def _as_rgb(self, region: NDArray[Any]) -> NDArray[np.uint8]:
        eight = region if self.bits == 8 else (region >> 8).astype(np.uint8)
        if eight.ndim == 2:
            return np.repeat(eight[..., None], 3, axis=2)
        if eight.shape[2] == 3 or self._drop_alpha:
            return eight[..., :3]
        return on_white(np.ascontiguousarray(eight))

    @abstractmethod
    def _damaged(self, error: Exception) -> InputError:
        """Return the error that the user reads for one of `errors`."""
