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

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.resample import resample_to
from tcgn_mil.types.tile_geometry import MPP_RANGE, check_mpp

MPP_TOLERANCE = 0.02
MAX_READ_PX = 100_000_000
BAND_PX = 8_000_000  # a thumbnail is read in bands of so many pixels: 60 MB at a time
CACHE_BYTES = (
    128 * 2**20
)  # decoded blocks across 130,000 px, so that the next row of tiles finds them again
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
PLAIN_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", *TIFF_SUFFIXES})


class Slide(ABC):
    """An open slide; use it as a context manager.

    Attributes
    ----------
    path
        The file.
    mpp
        µm per pixel of level 0.
    size
        Width and height of level 0 in pixels.
    level_sizes, level_downsamples
        Width and height of each pyramid level, and how many times it is coarser than level 0; finest first.
    """

    path: Path
    mpp: float
    size: tuple[int, int]
    level_sizes: tuple[tuple[int, int], ...]
    level_downsamples: tuple[float, ...]

    def read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]:
        """Pixels of a rectangle.

        Parameters
        ----------
        x0, y0
            Top-left corner in level-0 pixels; may lie outside the slide.
        level
            Pyramid level read.
        width_px, height_px
            Size in that level's pixels.

        Returns
        -------
        (height_px, width_px, 3) uint8 RGB; what is outside the slide or transparent is white.

        Raises
        ------
        InputError
            If the file turns out to be damaged there, or over `MAX_READ_PX` pixels are asked for.
        """
        if width_px * height_px > MAX_READ_PX:
            raise InputError(
                f"{width_px} x {height_px} pixels of level {level} are too many to read at once",
                path=self.path,
                fix="use a slide with coarser pyramid levels, or smaller tiles",
            )
        return self._read(x0, y0, level, width_px, height_px)

    def thumbnail(self, mpp: float) -> NDArray[np.uint8]:
        """The whole slide at `mpp` µm per pixel, (H, W, 3) uint8, read in bands so that memory stays bounded."""
        factor = check_mpp(mpp, what="thumbnail resolution") / self.mpp
        width, height = (max(1, round(side / factor)) for side in self.size)
        finer = [
            i for i, downsample in enumerate(self.level_downsamples) if downsample <= factor * 1.001
        ]
        level = finer[-1] if finer else 0
        level_width, level_height = self.level_sizes[level]
        bands = math.ceil(max(level_width * level_height, width * height) / BAND_PX)
        out = np.empty((height, width, 3), dtype=np.uint8)
        for top, bottom in pairwise(
            np.unique(np.linspace(0, height, bands + 1).round().astype(int)).tolist()
        ):
            first, last = (round(row * level_height / height) for row in (top, bottom))
            y0 = round(first * self.level_downsamples[level])
            band = self.read(0, y0, level, level_width, max(1, last - first))
            out[top:bottom] = resample_to(band, width, bottom - top)
        return out

    @abstractmethod
    def _read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]: ...

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def choose_mpp(
    stated: float | None, given: float | None, fallback: float | None, *, path: Path
) -> float:
    """Resolution by the rules at the top of this file.

    Parameters
    ----------
    stated
        By the file.
    given, fallback
        By the user, for this slide and for slides without one.
    """
    plausible = stated is not None and MPP_RANGE[0] <= stated <= MPP_RANGE[1]
    if plausible and stated is not None:
        if given is not None and not math.isclose(given, stated, rel_tol=MPP_TOLERANCE):
            raise InputError(
                f"the file says {stated:.4g} µm/px, but {given:g} was given",
                path=path,
                fix="leave the mpp out to use the file's, or correct whichever is wrong",
            )
        return stated
    chosen = given if given is not None else fallback
    if chosen is not None:
        return chosen
    tag = f" (its tag of {stated:.4g} µm/px cannot be a scanner's)" if stated is not None else ""
    raise InputError(
        f"the file does not say its resolution{tag}",
        path=path,
        fix="give --mpp, or a column mpp in the slides table (0.25 is usual for 40x, 0.5 for 20x; ask the scanner)",
    )


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 4) uint8 with straight alpha -> (H, W, 3) uint8 over white."""
    rgb = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), dtype=np.uint8)
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return rgb
    opacity = alpha[..., None].astype(np.float32) / 255
    return np.rint(rgb * opacity + 255 * (1 - opacity)).astype(np.uint8)


def _scanner_mpp(handle: openslide.OpenSlide, path: Path) -> float | None:
    """Mean of the horizontal and vertical resolution, which differ by a few per mille in some scanners."""
    names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    try:
        x, y = (float(handle.properties[name]) for name in names)
    except (KeyError, ValueError):
        return None
    if not math.isclose(x, y, rel_tol=MPP_TOLERANCE):
        raise InputError(
            f"its pixels are not square: {x:.4g} by {y:.4g} µm",
            path=path,
            fix="resample it to square pixels",
        )
    return (x + y) / 2


def _damaged(path: Path, error: openslide.OpenSlideError) -> InputError:
    return InputError(
        f"is damaged: OpenSlide says {str(error).splitlines()[0][:200]!r}",
        path=path,
        fix="copy or download it again, and compare its size or checksum with the source's",
    )
