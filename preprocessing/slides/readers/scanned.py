"""Whole-slide images behind one small interface: OpenSlide for scanner formats, tifffile for OME-TIFF, Pillow for plain
images.

Where the resolution comes from, in this order, and it is never guessed:

1. the file: OpenSlide's ``mpp`` properties; an OME-TIFF's physical size of pixels; the resolution
   tags of a TIFF. A tag outside 0.05 to 20 µm/px (a printer's 72 dpi, say) is none, and neither is the dpi of a PNG or
   JPEG, nor an objective's magnification.
2. ``mpp``, a statement about this slide. One that contradicts the file by more than 2 % is an error: one of the two
   is wrong, and a tile of the wrong size goes unnoticed later.
3. ``fallback_mpp``, for slides of a cohort that carry none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.base import (
    CACHE_BYTES,
    Slide,
    _damaged,
    _scanner_mpp,
    choose_mpp,
    on_white,
)


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


def _open_scanned(path: Path, mpp: float | None, fallback_mpp: float | None) -> ScannedSlide:
    try:
        handle = openslide.OpenSlide(path)
    except openslide.OpenSlideError as error:
        raise _damaged(path, error) from error
    try:
        return ScannedSlide(
            path, handle, choose_mpp(_scanner_mpp(handle, path), mpp, fallback_mpp, path=path)
        )
    except InputError:
        handle.close()
        raise
