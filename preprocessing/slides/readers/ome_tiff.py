"""OME-TIFF (Goldberg et al., Genome Biol 2005), whose pyramid and resolution OpenSlide does not read.

Levels lie in SubIFDs of the first page, and micrometres per pixel in the OME-XML of its description.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import MPP_TOLERANCE, Slide, choose_mpp

_UM = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4}  # two different letters µ
_MAX_XML = 64 * 2**20
_DAMAGED = (OSError, ValueError, KeyError, IndexError, RuntimeError, tifffile.TiffFileError)
_WHOLE_FILE_FIX = "copy or download it again, and compare its size with the source's"


def is_ome_tiff(path: Path) -> bool:
    """Whether a file is a TIFF that carries OME-XML."""
    try:
        with tifffile.TiffFile(path) as file:
            return file.is_ome
    except _DAMAGED:
        return False


class OmeSlide(Slide):
    """The first image of an OME-TIFF, with its levels."""

    def __init__(self, path: Path, mpp: float | None, fallback_mpp: float | None) -> None:
        self.path = path
        try:
            self._file = tifffile.TiffFile(path)
            self._levels, self.level_sizes = self._open_levels()
        except _DAMAGED as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"is damaged ({str(error)[:200]})", path=path, fix=_WHOLE_FILE_FIX
            ) from error
        self.size = self.level_sizes[0]
        self.level_downsamples = tuple(
            (self.size[0] / width + self.size[1] / height) / 2 for width, height in self.level_sizes
        )
        self.mpp = choose_mpp(
            _stated_mpp(self._file.ome_metadata or "", path), mpp, fallback_mpp, path=path
        )

    def _open_levels(self) -> tuple[list[Any], tuple[tuple[int, int], ...]]:
        """Arrays (H, W, 3) uint8 that decode what is read of them, and their sizes, finest first."""
        series = self._file.series[0]
        if series.axes != "YXS" or series.shape[2] != 3 or series.dtype != np.uint8:
            self._file.close()
            raise InputError(
                f"its first image has axes {series.axes} of {series.shape} {series.dtype}, not RGB of 8 bits",
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
                found = self._levels[level][first_row:last_row, first_column:last_column]
            except _DAMAGED as error:
                raise InputError(
                    f"is damaged ({str(error)[:200]})", path=self.path, fix=_WHOLE_FILE_FIX
                ) from error
            out[first_row - top : last_row - top, first_column - left : last_column - left] = found
        return out

    def close(self) -> None:
        self._file.close()


def _stated_mpp(xml: str, path: Path) -> float | None:
    """Physical size of a pixel of the first image; None where there is none, or in a unit of no length."""
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", xml[:_MAX_XML])
    if pixels is None:
        return None
    found = []
    for axis in ("X", "Y"):
        size = re.search(rf'\bPhysicalSize{axis}="([0-9.eE+-]+)"', pixels.group())
        unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]*)"', pixels.group())
        factor = _UM.get("µm" if unit is None else unit.group(1))
        if size is None or factor is None:
            return None
        found.append(float(size.group(1)) * factor)
    if not (found[0] > 0 and abs(found[1] / found[0] - 1) <= MPP_TOLERANCE):
        raise InputError(
            f"its pixels are not square: {found[0]:.4g} by {found[1]:.4g} µm",
            path=path,
            fix="resample it to square pixels",
        )
    return (found[0] + found[1]) / 2
