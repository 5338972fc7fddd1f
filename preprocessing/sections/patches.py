"""Where the patch of a spot lies and what it shows: cut by physical size round the centre, resampled once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.slides.resample import resample
from tcgn_mil.types.tile_geometry import MAX_UPSAMPLING, PatchSize


def patch_corners(
    centres: NDArray[np.floating], patch: PatchSize, mpp: float
) -> tuple[NDArray[np.int64], int]:
    """Top-left corners (S, 2) x, y and the side of the source square, in pixels of an image with `mpp` µm each."""
    side = max(1, round(patch.um / mpp))
    return np.floor(np.asarray(centres, dtype=np.float64) - side / 2 + 0.5).astype(np.int64), side


def inside(corners: NDArray[np.int64], side: int, width: int, height: int) -> NDArray[np.bool_]:
    """(S,) whether a patch lies wholly on the image."""
    return (
        (corners >= 0).all(axis=1)
        & (corners[:, 0] + side <= width)
        & (corners[:, 1] + side <= height)
    )


def cut_patches(
    slide: Slide, centres: NDArray[np.floating], patch: PatchSize
) -> Iterator[NDArray[np.uint8]]:
    """Each patch (px, px, 3) uint8, in the order of `centres` (S, 2), level-0 pixels.

    Whole source pixels are taken, except where a few of them fill a patch: rounding those would change its size.
    """
    if slide.mpp > patch.mpp * MAX_UPSAMPLING:
        for x, y in np.asarray(centres, dtype=np.float64).tolist():
            yield _enlarge(slide, x, y, patch)
        return
    corners, side = patch_corners(centres, patch, slide.mpp)
    for x, y in corners.tolist():
        yield resample(slide.read(x, y, 0, side, side), patch.px)


def _enlarge(slide: Slide, x: float, y: float, patch: PatchSize) -> NDArray[np.uint8]:
    """A patch of fewer source pixels than its own, interpolated between them at the exact place."""
    step = patch.mpp / slide.mpp  # source pixels per stored pixel
    reach = (
        math.ceil(patch.um / slide.mpp / 2) + 3
    )  # bicubic interpolation looks two pixels further
    left, top = math.floor(x) - reach, math.floor(y) - reach
    source = slide.read(left, top, 0, 2 * reach + 1, 2 * reach + 1)
    first_x, first_y = (
        centre - origin - patch.um / slide.mpp / 2 + step / 2 - 0.5
        for centre, origin in ((x, left), (y, top))
    )
    to_source = np.array([[step, 0, first_x], [0, step, first_y]])
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(
        source, to_source, (patch.px, patch.px), flags=how, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, dtype=np.uint8)
