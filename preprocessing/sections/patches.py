"""Cut the patch of each spot out of an image, by physical size around its centre."""

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
    """Return the squares of an image that become patches.

    Parameters
    ----------
    centres
        (S, 2) spot centres x, y in pixels of the image.
    patch
        Physical size of the patches.
    mpp
        µm per pixel of the image.

    Returns
    -------
    corners : ndarray
        (S, 2) int64 top-left corners x, y.
    side : int
        Side of the squares in pixels of the image.

    Examples
    --------
    >>> corners, side = patch_corners(np.array([[100.0, 60.0]]), PatchSize(112, 0.5), mpp=1.0)
    >>> corners.tolist(), side
    ([[72, 32]], 56)
    """
    side = max(1, round(patch.um / mpp))
    return np.floor(np.asarray(centres, dtype=np.float64) - side / 2 + 0.5).astype(np.int64), side


def inside(corners: NDArray[np.int64], side: int, width: int, height: int) -> NDArray[np.bool_]:
    """Return (S,) whether a patch lies wholly on the image."""
    return (
        (corners >= 0).all(axis=1)
        & (corners[:, 0] + side <= width)
        & (corners[:, 1] + side <= height)
    )


def cut_patches(
    slide: Slide, centres: NDArray[np.floating], patch: PatchSize
) -> Iterator[NDArray[np.uint8]]:
    """Cut the patches out of a slide.

    Usually a patch is a whole number of source pixels, resampled to the size of the patch. If the
    image is so coarse that a few source pixels fill a patch, rounding to whole pixels would change
    the physical size of the patch noticeably. The patch is then interpolated at its exact place.

    Parameters
    ----------
    slide
        The image.
    centres
        (S, 2) spot centres x, y in level-0 pixels.
    patch
        Physical size of the patches.

    Yields
    ------
    ndarray
        (px, px, 3) uint8, in the order of the centres.
    """
    if slide.mpp > patch.mpp * MAX_UPSAMPLING:
        for x, y in np.asarray(centres, dtype=np.float64).tolist():
            yield _enlarge(slide, x, y, patch)
        return
    corners, side = patch_corners(centres, patch, slide.mpp)
    for x, y in corners.tolist():
        yield resample(slide.read(x, y, 0, side, side), patch.px)


def _enlarge(slide: Slide, x: float, y: float, patch: PatchSize) -> NDArray[np.uint8]:
    """Interpolate a patch that has more pixels than its source.

    The centre of patch pixel ``i`` is at ``centre - um / mpp / 2 + (i + 1/2) * step - 1/2`` in
    source pixels, where pixel ``i`` of the source has its centre at ``i``.
    """
    step = patch.mpp / slide.mpp  # source pixels for each pixel of the patch
    # Bicubic interpolation uses two pixels beyond the patch on each side.
    reach = math.ceil(patch.um / slide.mpp / 2) + 3
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
