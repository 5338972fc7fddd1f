"""Finding tissue on glass by its texture.

Tissue is rough at cell scale, glass is not: not where eosin has smeared over it, nor where the scanner tints it. So the
mask comes from the local standard deviation of the optical density, with one absolute threshold, and needs no histogram
with two modes (Otsu's method cuts a stained section from its pale half, and cuts an image that is all tissue in two).
Smooth tissue (muscle, colloid, out-of-focus areas) is added where it is much denser than the glass. Ink is taken out
before texture is measured, so that a pen stroke's edge is no tissue either.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.preprocessing.tiles.ink import (
    disk,
    find_ink,
    local_statistics,
    optical_density,
    remove_small_regions,
)

TISSUE_MPP = 8.0  # resolution at which tissue is looked for
WINDOW_UM = 40.0  # texture is measured in a Gaussian window of this width (2 sd), some four nuclei
RIM_UM = 25.0  # taken off: the window sees tissue from the glass beside it
ROUGHNESS = 0.05  # sd of the density summed over R, G, B: glass of five smeared sections 0.02, palest fat 0.07
GLASS_ROUGHNESS = 0.02
EXCESS_DENSITY = 0.4  # over the glass, summed over R, G, B; eosin smears reach 0.2
DARKEST_GLASS = 0.45
GLASS_PERCENTILE = 90  # the tint varies, and stitched scans have white gaps between their fields
FAINTEST_STAIN = 0.04  # over the glass: takes off what of that rim is clean
PIXEL_NOISE_UM = 6.0
CLOSING_UM = 40.0
LARGEST_HOLE_UM2 = 40_000.0  # a lumen or a fat cell belongs to its tissue
SMALLEST_TISSUE_UM2 = 30_000.0  # five default tiles; dust is smaller


class Glass(NamedTuple):
    """What lies on the glass, (h, w) bool each: tissue, and pen."""

    tissue: NDArray[np.bool_]
    pen: NDArray[np.bool_]


def find_tissue(thumbnail: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """Tissue of a slide alone; see :func:`survey`."""
    return survey(thumbnail, mpp).tissue


def survey(thumbnail: NDArray[np.uint8], mpp: float) -> Glass:
    """Tissue and pen of a slide.

    Parameters
    ----------
    thumbnail
        (H, W, 3) uint8 RGB of the whole slide.
    mpp
        Its micrometres per pixel; the thresholds were set at `TISSUE_MPP` and hold from about 4 to 12.
    """
    density = optical_density(thumbnail)
    ink, pen = find_ink(density, mpp)
    total = density.sum(axis=2)
    mean, roughness = local_statistics(total, ~ink, WINDOW_UM / 2 / mpp)
    excess = mean - (glass := _glass_density(mean, roughness, ink))
    found = (roughness > ROUGHNESS) | (excess > EXCESS_DENSITY)
    # Ink counts as tissue for the rim, so that tissue is not cut back beside it.
    region = cv2.erode(_close(found | ink, CLOSING_UM / mpp), disk(RIM_UM / mpp)).astype(bool)
    stained = cv2.GaussianBlur(total, (0, 0), PIXEL_NOISE_UM / mpp) > glass + FAINTEST_STAIN
    closed = _close(region & stained & ~ink, CLOSING_UM / mpp)
    gaps = remove_small_regions(1 - closed, LARGEST_HOLE_UM2 / mpp**2)
    smallest_px = min(
        SMALLEST_TISSUE_UM2 / mpp**2, total.size / 4
    )  # a small region of interest is no speck
    tissue = remove_small_regions(((gaps == 0) & ~ink).astype(np.uint8), smallest_px).astype(bool)
    return Glass(tissue, pen)


def _close(mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.uint8]:
    """Morphological closing that takes the image's border for repeated beyond it."""
    margin = round(2 * radius_px)
    padded = np.pad(mask.astype(np.uint8), margin, mode="edge")
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disk(radius_px))
    return closed[margin:-margin, margin:-margin].astype(np.uint8)


def _glass_density(
    mean: NDArray[np.float32], roughness: NDArray[np.float32], ink: NDArray[np.bool_]
) -> float:
    """Density that most bare glass stays under: 0 (white) where hardly any of the image is smooth and pale."""
    glass = (roughness < GLASS_ROUGHNESS) & ~ink & (mean < DARKEST_GLASS)
    return float(np.percentile(mean[glass], GLASS_PERCENTILE)) if glass.mean() > 0.01 else 0.0
