"""Where the patch of a spot lies and what it shows: cut by physical size round the centre, resampled once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.contracts import PatchSize
from tcgn_mil.preprocessing.resample import resample


def patch_corners(centres: NDArray[np.floating], patch: PatchSize, mpp: float) -> tuple[NDArray[np.int64], int]:
    """Top-left corners (S, 2) x, y and the side of the source square, in pixels of an image with `mpp` µm each."""
    side = max(1, round(patch.um / mpp))
    return np.floor(np.asarray(centres, dtype=np.float64) - side / 2 + 0.5).astype(np.int64), side


def inside(corners: NDArray[np.int64], side: int, width: int, height: int) -> NDArray[np.bool_]:
    """(S,) whether a patch lies wholly on the image."""
    return (corners >= 0).all(axis=1) & (corners[:, 0] + side <= width) & (corners[:, 1] + side <= height)


def cut_patches(
    image: NDArray[np.uint8], corners: NDArray[np.int64], side: int, patch: PatchSize
) -> Iterator[NDArray[np.uint8]]:
    """Each patch (px, px, 3) uint8, in the order of `corners`."""
    for x, y in corners.tolist():
        yield resample(image[y : y + side, x : x + side], patch.px)
