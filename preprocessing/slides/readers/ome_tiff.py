"""Reader of OME-TIFF (Goldberg et al., Genome Biology 2005), by tifffile.

OpenSlide opens such files, but reads neither their pyramid nor their resolution. The pyramid levels
are in the SubIFDs of the first page of an image, and the micrometres per pixel are in the OME-XML
of the file's description, or else in the resolution tags of the page.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.array_pyramid import PRIMARIES, ArrayPyramid
from tcgn_mil.preprocessing.slides.readers.base import MPP_TOLERANCE, NO_SECTION, choose_mpp
from tcgn_mil.preprocessing.slides.readers.ome_xml import OmeImage, read_ome_xml
from tcgn_mil.preprocessing.slides.readers.registry import SlideReader
from tcgn_mil.preprocessing.slides.readers.tiff_tags import DAMAGED as _DAMAGED
from tcgn_mil.preprocessing.slides.readers.tiff_tags import SUFFIXES, check_tile, is_tiff, pixel_um
from tcgn_mil.text import preview

# Files of scanners are TIFF as well. None of them is OME-TIFF, and opening each would take time.
_SCANNERS = frozenset({".svs", ".ndpi", ".scn", ".bif", ".svslide"})


def is_ome_tiff(path: Path) -> bool:
    """Return whether a file is a TIFF that carries OME-XML."""
    if path.suffix.lower() in _SCANNERS or not is_tiff(path):
        return False
    try:
        with tifffile.TiffFile(path) as file:
            return file.is_ome
    except _DAMAGED:
        return False


class OmeSlide(ArrayPyramid):
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

    errors = _DAMAGED

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
        unstated = 0 in map(int, series.keyframe.extrasamples)
        arrays = [
            zarr.open_array(series.aszarr(level=number), mode="r")
            for number in range(len(series.levels))
        ]
        self._set_levels(arrays, series.axes, drop_alpha=unstated)
        if unstated:
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
        sections = [i for i in readable if not NO_SECTION.search(self._images[i].name)]
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

    def _damaged(self, error: Exception) -> InputError:
        return _damaged(self.path, error)

    def close(self) -> None:
        self._file.close()


def _is_readable(series: Any, image: OmeImage) -> bool:
    """Return whether an image is RGB, RGBA or grey, as samples of a pixel or as planes."""
    if series.dtype not in (np.uint8, np.uint16):
        return False
    if series.axes == "YX":
        return True
    if series.axes == "CYX":  # three grey planes are RGB only if they are named so
        return image.channels in PRIMARIES
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
