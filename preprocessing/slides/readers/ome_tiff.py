"""Reader of OME-TIFF (Goldberg et al., Genome Biology 2005), by tifffile.

OpenSlide opens such files, but reads neither their pyramid nor their resolution. The pyramid levels
are in the SubIFDs of the first page, and the micrometres per pixel are in the OME-XML of its
description.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import Slide, choose_mpp, mean_of_square_pixel
from tcgn_mil.preprocessing.slides.readers.registry import SlideReader

SUFFIXES = frozenset({".tif", ".tiff"})
# Micrometres in each unit. The micro sign and the Greek letter mu are two different characters.
_UM = {"nm": 1e-3, "\u00b5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}
_MAX_XML = 64 * 2**20
_DAMAGED = (OSError, ValueError, KeyError, IndexError, RuntimeError, tifffile.TiffFileError)


def is_ome_tiff(path: Path) -> bool:
    """Return whether a file is a TIFF that carries OME-XML."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    try:
        with tifffile.TiffFile(path) as file:
            return file.is_ome
    except _DAMAGED:
        return False


class OmeSlide(Slide):
    """The first image of an OME-TIFF, with its pyramid levels.

    Parameters
    ----------
    path, mpp, fallback_mpp
        As for :func:`~.registry.open_slide`.

    Raises
    ------
    InputError
        If the file is damaged, the image is not 8-bit RGB, or its resolution is unknown.
    """

    def __init__(self, path: Path, mpp: float | None, fallback_mpp: float | None) -> None:
        self.path = path
        try:
            self._file = tifffile.TiffFile(path)
            self._levels, self.level_sizes = self._open_levels()
        except InputError:
            raise
        except _DAMAGED as error:
            raise _damaged(path, error) from error
        self.size = self.level_sizes[0]
        self.level_downsamples = tuple(
            (self.size[0] / width + self.size[1] / height) / 2 for width, height in self.level_sizes
        )
        stated = _stated_mpp(self._file.ome_metadata or "", path)
        self.mpp = choose_mpp(stated, mpp, fallback_mpp, path=path)

    def _open_levels(self) -> tuple[list[Any], tuple[tuple[int, int], ...]]:
        """Open each level as a lazy (H, W, 3) uint8 array, and return them with their sizes."""
        import zarr  # loading it takes longer than loading all other readers together

        series = self._file.series[0]
        if series.axes != "YXS" or series.shape[2] != 3 or series.dtype != np.uint8:
            self._file.close()
            raise InputError(
                f"its first image has axes {series.axes} of {series.shape} {series.dtype},"
                " not RGB of 8 bits",
                path=self.path,
                fix="export the brightfield image as RGB OME-TIFF",
            )
        arrays = [
            zarr.open_array(series.aszarr(level=number), mode="r")
            for number in range(len(series.levels))
        ]
        sizes = [(int(array.shape[1]), int(array.shape[0])) for array in arrays]
        return arrays, tuple(sizes)

    def _read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]:
        left, top = (round(start / self.level_downsamples[level]) for start in (x0, y0))
        width, height = self.level_sizes[level]
        out = np.full((height_px, width_px, 3), 255, dtype=np.uint8)
        first_column, last_column = max(left, 0), min(left + width_px, width)
        first_row, last_row = max(top, 0), min(top + height_px, height)
        if first_column < last_column and first_row < last_row:
            try:
                inside = self._levels[level][first_row:last_row, first_column:last_column]
            except _DAMAGED as error:
                raise _damaged(self.path, error) from error
            out[first_row - top : last_row - top, first_column - left : last_column - left] = inside
        return out

    def close(self) -> None:
        self._file.close()


def _stated_mpp(xml: str, path: Path) -> float | None:
    """Read the pixel size of the first image; None if it is missing or not in a unit of length.

    The XML is searched, not parsed: a parser would have to be protected against entity bombs, and
    only three attributes of one element are needed.
    """
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", xml[:_MAX_XML])
    if pixels is None:
        return None
    um = []
    for axis in ("X", "Y"):
        size = re.search(rf'\bPhysicalSize{axis}="([0-9.eE+-]+)"', pixels.group())
        unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]*)"', pixels.group())
        factor = _UM.get("\u00b5m" if unit is None else unit.group(1))  # µm is OME's default
        if size is None or factor is None:
            return None
        um.append(float(size.group(1)) * factor)
    return mean_of_square_pixel(*um, path=path)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"is damaged ({str(error)[:200]})",
        path=path,
        fix="copy or download it again, and compare its size with the source's",
    )


READER = SlideReader("OME-TIFF", SUFFIXES, is_ome_tiff, OmeSlide)
