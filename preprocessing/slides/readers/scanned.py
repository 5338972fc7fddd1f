"""Reader of the scanners' own formats, by OpenSlide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.extras import install_line
from tcgn_mil.preprocessing.slides.readers.base import (
    Slide,
    choose_mpp,
    on_white,
)
from tcgn_mil.preprocessing.slides.readers.registry import SlideReader
from tcgn_mil.preprocessing.slides.readers.tiff_tags import SUFFIXES as TIFF_SUFFIXES
from tcgn_mil.preprocessing.slides.readers.tiff_tags import (
    bits_of,
    check_samples,
    first_page_um,
    has_unstated_sample,
    is_tiff,
)

SUFFIXES = TIFF_SUFFIXES | {
    ".svs",
    ".ndpi",
    ".mrxs",
    ".scn",
    ".svslide",
    ".bif",
    ".czi",
    ".vms",
    ".vmu",
}
# OpenSlide's name for TIFF files of no scanner, of which it knows no more than their tags.
_GENERIC = "generic-tiff"
# Decoded blocks that OpenSlide keeps. Tiles are read row by row, and a row of tiles shares blocks
# with the next one; this size keeps one row of blocks of a slide that is 130,000 pixels wide.
CACHE_BYTES = 128 * 2**20


class ScannedSlide(Slide):
    """A slide that OpenSlide opened."""

    def __init__(self, path: Path, handle: openslide.OpenSlide, mpp: float) -> None:
        self.path, self.mpp, self._handle = path, mpp, handle
        self.size = handle.dimensions
        self.level_sizes = tuple(handle.level_dimensions)
        self.level_downsamples = tuple(handle.level_downsamples)
        handle.set_cache(openslide.OpenSlideCache(CACHE_BYTES))

    def _read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]:
        try:
            rgba = np.asarray(self._handle.read_region((x0, y0), level, (width_px, height_px)))
        except openslide.OpenSlideError as error:
            raise _damaged(self.path, error) from error
        return on_white(rgba)

    def close(self) -> None:
        self._handle.close()


def is_scanned(path: Path) -> bool:
    """Return whether OpenSlide recognises the file and reads its pixels as they are meant.

    The suffix does not matter.
    """
    vendor = openslide.OpenSlide.detect_format(path)
    return vendor is not None and not (vendor == _GENERIC and has_unstated_sample(path))


def open_scanned(path: Path, mpp: float | None, fallback_mpp: float | None) -> ScannedSlide:
    """Open a slide with OpenSlide; see :class:`~.registry.SlideReader` for the arguments."""
    if is_tiff(path):
        check_samples(path)
    try:
        handle = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise _damaged(path, error) from error
    generic = handle.properties.get(openslide.PROPERTY_NAME_VENDOR) == _GENERIC
    pixel_um = first_page_um(path) if generic else _stated_um(handle)
    try:
        slide = ScannedSlide(path, handle, choose_mpp(pixel_um, mpp, fallback_mpp, path=path))
    except InputError:
        handle.close()
        raise
    slide.pixel_um, slide.bounds_corner = pixel_um, _bounds_corner(handle)
    slide.bits = bits_of(path) if generic else 8
    return slide


def _stated_um(handle: openslide.OpenSlide) -> tuple[float, float] | None:
    try:
        return (
            float(handle.properties[openslide.PROPERTY_NAME_MPP_X]),
            float(handle.properties[openslide.PROPERTY_NAME_MPP_Y]),
        )
    except (KeyError, ValueError):
        return None


def _bounds_corner(handle: openslide.OpenSlide) -> tuple[int, int]:
    """Return the corner of the scanned area, which MIRAX, Leica and Ventana slides state."""
    try:
        return (
            int(handle.properties[openslide.PROPERTY_NAME_BOUNDS_X]),
            int(handle.properties[openslide.PROPERTY_NAME_BOUNDS_Y]),
        )
    except (KeyError, ValueError):
        return 0, 0


def _damaged(path: Path, error: openslide.OpenSlideError) -> InputError:
    if "nsupported" in str(error):
        return InputError(
            f"is in a form that OpenSlide does not read: {str(error).splitlines()[0][:200]!r}",
            path=path,
            fix="convert it to a tiled TIFF of 8-bit RGB with the compression JPEG or deflate"
            + (f"; or {install_line('pylibCZIrw')}" if path.suffix.lower() == ".czi" else ""),
        )
    return InputError(
        f"is damaged: OpenSlide says {str(error).splitlines()[0][:200]!r}",
        path=path,
        fix="copy or download it again, and compare its size or checksum with the source's",
    )


def list_files(path: Path) -> list[Path]:
    """Return the files of a slide: of MIRAX also its folder, of Hamamatsu's VMS its images."""
    suffix = path.suffix.lower()
    others: list[Path] = []
    if suffix == ".mrxs" and path.with_suffix("").is_dir():
        others = sorted(each for each in path.with_suffix("").iterdir() if each.is_file())
    elif suffix in {".vms", ".vmu"} and path.parent.is_dir():
        others = sorted(
            each
            for each in path.parent.iterdir()
            if each != path and each.is_file() and each.name.startswith(path.stem)
        )
    return [path, *others]


READER = SlideReader("openslide", SUFFIXES, is_scanned, open_scanned, files=list_files)
