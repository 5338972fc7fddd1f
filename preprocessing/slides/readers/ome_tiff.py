"""Reader of OME-TIFF (Goldberg et al., Genome Biology 2005), by tifffile.

OpenSlide opens such files, but reads neither their pyramid nor their resolution. The pyramid levels
are in the SubIFDs of the first page of an image, and the micrometres per pixel are in the OME-XML
of the file's description, or else in the resolution tags of the page.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import MPP_TOLERANCE, Slide, choose_mpp, on_white
from tcgn_mil.preprocessing.slides.readers.ome_xml import OmeImage, read_ome_xml
from tcgn_mil.preprocessing.slides.readers.registry import SlideReader
from tcgn_mil.preprocessing.slides.readers.tiff_tags import DAMAGED as _DAMAGED
from tcgn_mil.preprocessing.slides.readers.tiff_tags import SUFFIXES, check_tile, is_tiff, pixel_um
from tcgn_mil.text import preview

# Files of scanners are TIFF as well. None of them is OME-TIFF, and opening each would take time.
_SCANNERS = frozenset({".svs", ".ndpi", ".scn", ".bif", ".svslide"})
# Images beside the section, by the names that scanners and Bio-Formats give them.
_NO_SECTION = re.compile(r"\b(label|macro|overview|thumbnail|barcode)\b", re.IGNORECASE)
_PRIMARIES = (["red", "green", "blue"], ["r", "g", "b"])


def is_ome_tiff(path: Path) -> bool:
    """Return whether a file is a TIFF that carries OME-XML."""
    if path.suffix.lower() in _SCANNERS or not is_tiff(path):
        return False
    try:
        with tifffile.TiffFile(path) as file:
            return file.is_ome
    except _DAMAGED:
        return False


class OmeSlide(Slide):
    """The section in an OME-TIFF, with its pyramid levels.

    Of several images the largest is read that has colours or grey values and is not named as a
    label, a macro image or the like. The others are named in `notes`.

    Parameters
    ----------
    path, mpp, fallback_mpp
        As for :func:`~.registry.open_slide`.

    Raises
    ------
    InputError
        If the file is damaged, no image is RGB or grey of 8 or 16 bits, or the resolution is
        unknown.
    """

    def __init__(self, path: Path, mpp: float | None, fallback_mpp: float | None) -> None:
        self.path = path
        try:
            self._file = tifffile.TiffFile(path)
            self._images = self._describe()
            self._open_levels()
        except InputError:
            self._file.close()
            raise
        except _DAMAGED as error:
            raise _damaged(path, error) from error
        self.size = self.level_sizes[0]
        self.level_downsamples = tuple(
            (self.size[0] / width + self.size[1] / height) / 2 for width, height in self.level_sizes
        )
        try:
            self.mpp = choose_mpp(self.pixel_um, mpp, fallback_mpp, path=path)
        except InputError:
            self._file.close()
            raise

    def _describe(self) -> list[OmeImage]:
        """Return the description of each image, empty ones where the XML is short of some."""
        images = read_ome_xml(self._file.ome_metadata or "")[: len(self._file.series)]
        return images + [OmeImage("")] * (len(self._file.series) - len(images))

    def _open_levels(self) -> None:
        """Choose the image, and open each of its levels as a lazy array."""
        import zarr  # loading it takes longer than loading all other readers together

        index = self._choose_image()
        series, image = self._file.series[index], self._images[index]
        for level in series.levels:
            check_tile((int(level.keyframe.tilewidth), int(level.keyframe.tilelength)), self.path)
        self._axes, self.bits = series.axes, 8 * series.dtype.itemsize
        self._unstated = 0 in map(int, series.keyframe.extrasamples)
        self._levels = [
            zarr.open_array(series.aszarr(level=number), mode="r")
            for number in range(len(series.levels))
        ]
        row, column = series.axes.index("Y"), series.axes.index("X")
        self.level_sizes = tuple(
            (int(array.shape[column]), int(array.shape[row])) for array in self._levels
        )
        if self._unstated:
            self.notes += ("the last sample of its pixels is of no stated kind and is not read",)
        tags = pixel_um(series.keyframe)
        self.pixel_um = image.pixel_um or tags
        if tags and self.pixel_um and not _alike(tags, self.pixel_um):
            self.notes += (
                f"its TIFF tags say {tags[0]:.4g} µm/px, its OME-XML {self.pixel_um[0]:.4g}; that"
                " of the OME-XML is used",
            )

    def _choose_image(self) -> int:
        """Return the position of the image to read, and note the others."""
        series = self._file.series
        readable = [i for i, each in enumerate(series) if _is_readable(each, self._images[i])]
        if not readable:
            first = series[0]
            planes = " (planes of single channels)" if first.axes[:1] in ("C", "S") else ""
            raise InputError(
                f"its first image has axes {first.axes} of {first.shape} {first.dtype}{planes},"
                " not RGB of 8 bits",
                path=self.path,
                fix="export the brightfield image as RGB OME-TIFF",
            )
        sections = [i for i in readable if not _NO_SECTION.search(self._images[i].name)]
        chosen = max(sections or readable, key=lambda i: math.prod(series[i].shape))
        if others := [self._label(i) for i in range(len(series)) if i != chosen]:
            self.notes += (
                f"of {len(series)} images in the file, {self._label(chosen)} is read, and not"
                f" {preview(others)}",
            )
        return chosen

    def _label(self, index: int) -> str:
        series = self._file.series[index]
        sides = dict(zip(series.axes, series.shape, strict=True))
        name = self._images[index].name or f"image {index}"
        return f"{name} ({sides.get('X', 0)} x {sides.get('Y', 0)} px)"

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
            except _DAMAGED as error:
                raise _damaged(self.path, error) from error
            out[first_row - top : last_row - top, first_column - left : last_column - left] = inside
        return out

    def _region(self, level: int, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a region as (h, w, channels), or as (h, w) if there is one channel."""
        places = {"Y": rows, "X": columns}
        where = tuple(places.get(axis, slice(None)) for axis in self._axes)
        region = np.asarray(self._levels[level][where])
        return np.moveaxis(region, 0, -1) if self._axes in ("SYX", "CYX") else region

    def _as_rgb(self, region: NDArray[Any]) -> NDArray[np.uint8]:
        eight = region if self.bits == 8 else (region >> 8).astype(np.uint8)
        if eight.ndim == 2:
            return np.repeat(eight[..., None], 3, axis=2)
        if eight.shape[2] == 3 or self._unstated:
            return eight[..., :3]
        return on_white(np.ascontiguousarray(eight))

    def close(self) -> None:
        self._file.close()


def _is_readable(series: Any, image: OmeImage) -> bool:
    """Return whether an image is RGB, RGBA or grey, as samples of a pixel or as planes."""
    if series.dtype not in (np.uint8, np.uint16):
        return False
    if series.axes == "YX":
        return True
    if series.axes == "CYX":  # three grey planes are RGB only if they are named so
        return image.channels in _PRIMARIES
    samples = {"YXS": series.shape[-1], "SYX": series.shape[0]}.get(series.axes)
    return samples in (3, 4)


def _alike(first_um: tuple[float, float], second_um: tuple[float, float]) -> bool:
    return math.isclose(sum(first_um), sum(second_um), rel_tol=MPP_TOLERANCE)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"is damaged ({str(error)[:200]})",
        path=path,
        fix="copy or download it again, and compare its size with the source's",
    )


READER = SlideReader("OME-TIFF", SUFFIXES, is_ome_tiff, OmeSlide)
