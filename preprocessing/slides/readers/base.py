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
from tcgn_mil.preprocessing.slides.readers.plain import (
    check_file,
    image_size,
    read_image,
    tiff_mpp,
)
from tcgn_mil.preprocessing.slides.resample import resample_to
from tcgn_mil.types.tiles import MPP_RANGE, check_mpp

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


def open_slide(
    path: str | Path, *, mpp: float | None = None, fallback_mpp: float | None = None
) -> Slide:
    """Open a slide or a plain image.

    Parameters
    ----------
    path
        Anything OpenSlide opens, or a PNG, JPEG or TIFF.
    mpp
        µm per pixel that the user states for this slide; must agree with the file, if that has one.
    fallback_mpp
        µm per pixel for a slide of which neither is known.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged or of no known format, or its resolution is unknown or contradictory.
    """
    path = Path(path)
    check_file(path)
    for name, value in (("mpp", mpp), ("fallback mpp", fallback_mpp)):
        if value is not None:
            check_mpp(value, what=name, path=path)
    if path.suffix.lower() in PLAIN_SUFFIXES - TIFF_SUFFIXES:
        return PlainSlide(path, choose_mpp(None, mpp, fallback_mpp, path=path))
    if path.suffix.lower() in TIFF_SUFFIXES:
        from tcgn_mil.preprocessing.slides.readers.ome_tiff import OmeSlide, is_ome_tiff

        if is_ome_tiff(path):
            return OmeSlide(path, mpp, fallback_mpp)
    if openslide.OpenSlide.detect_format(path) is not None:
        return _open_scanned(path, mpp, fallback_mpp)
    if path.suffix.lower() in TIFF_SUFFIXES:
        return PlainSlide(path, choose_mpp(tiff_mpp(path), mpp, fallback_mpp, path=path))
    raise InputError(
        "is no slide that OpenSlide knows (another kind of file, or cut off)",
        path=path,
        fix="check that the file is whole (its size against the source's), or convert it to a tiled TIFF",
    )


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


class PlainSlide(Slide):
    """One image without levels, decoded on first use and held in memory."""

    def __init__(self, path: Path, mpp: float) -> None:
        self.path, self.mpp = path, mpp
        self.size = image_size(path)
        self.level_sizes, self.level_downsamples = (self.size,), (1.0,)
        self._pixels: NDArray[np.uint8] | None = None

    def _read(
        self, x0: int, y0: int, level: int, width_px: int, height_px: int
    ) -> NDArray[np.uint8]:
        if self._pixels is None:
            self._pixels = read_image(self.path)
        x1, y1 = x0 + width_px, y0 + height_px
        if x0 >= 0 and y0 >= 0 and x1 <= self.size[0] and y1 <= self.size[1]:
            return self._pixels[y0:y1, x0:x1].copy()
        out = np.full((height_px, width_px, 3), 255, dtype=np.uint8)
        inside = self._pixels[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        top, left = max(-y0, 0), max(-x0, 0)
        out[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        return out

    def close(self) -> None:
        self._pixels = None


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


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 4) uint8 with straight alpha -> (H, W, 3) uint8 over white."""
    rgb = np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), dtype=np.uint8)
    alpha = rgba[..., 3]
    if alpha.min() == 255:
        return rgb
    opacity = alpha[..., None].astype(np.float32) / 255
    return np.rint(rgb * opacity + 255 * (1 - opacity)).astype(np.uint8)


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
