"""Find tissue on a slide by its texture.

Tissue is rough at the scale of cells. Glass is not, even where eosin has smeared over it or the
scanner gives it a tint. So the mask comes from the local standard deviation of the optical density,
with one absolute threshold. It needs no histogram with two peaks, unlike Otsu's method, which
separates the stained from the pale half of a section, and cuts an image that is all tissue in two.

Smooth tissue (muscle, colloid, areas out of focus) is added where it is much denser than the glass.
Ink is excluded before texture is measured, because the edge of a pen stroke is rough as well.
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
    total_density,
)

# Densities below are summed over red, green and blue.
# Texture is measured in a Gaussian window of this width (two standard deviations), which is about
# four nuclei.
WINDOW_UM = 40.0
# Near tissue the window reaches over it, so glass looks rough. A rim of this width is removed.
RIM_UM = 25.0
# Standard deviation of the density. Glass of five smeared sections has up to 0.02, and the palest
# fat has 0.07.
ROUGHNESS = 0.05
GLASS_ROUGHNESS = 0.02
EXCESS_DENSITY = 0.4  # above the glass; smears of eosin reach 0.2
DARKEST_GLASS = 0.45
# Not the median: the tint of glass varies, and stitched scans have white gaps between their fields.
GLASS_PERCENTILE = 90
FAINTEST_STAIN = 0.04  # above the glass; clean glass that is left of the rim has less
PIXEL_NOISE_UM = 6.0
CLOSING_UM = 40.0
MAX_HOLE_UM2 = 40_000.0  # a lumen or a fat cell belongs to its tissue
MIN_TISSUE_UM2 = 30_000.0  # five tiles of the default size; dust is smaller


class Glass(NamedTuple):
    """Masks of what lies on the glass, (h, w) bool.

    Attributes
    ----------
    tissue
        Tissue that can be seen.
    pen
        Ink.
    """

    tissue: NDArray[np.bool_]
    pen: NDArray[np.bool_]


def find_tissue(thumbnail: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """Find the tissue on a slide; see :func:`survey`, which also finds ink."""
    return survey(thumbnail, mpp).tissue


def survey(thumbnail: NDArray[np.uint8], mpp: float) -> Glass:
    """Find the tissue and the ink on a slide.

    Parameters
    ----------
    thumbnail
        (H, W, 3) uint8 RGB of the whole slide.
    mpp
        Micrometres per pixel of the thumbnail. The thresholds were set at 8, and hold from
        about 4 to 12.

    Returns
    -------
    Glass
        Two (H, W) masks.

    Examples
    --------
    >>> image = np.full((100, 100, 3), 245, dtype=np.uint8)
    >>> noise = np.random.default_rng(0).integers(60, 200, (40, 40, 1))
    >>> image[30:70, 30:70] = noise * [1, 0.6, 0.9]
    >>> tissue, pen = survey(image, mpp=8.0)
    >>> bool(tissue[50, 50]), bool(tissue[10, 10]), bool(pen.any())
    (True, False, False)
    """
    density = optical_density(thumbnail)
    ink, pen = find_ink(density, mpp)
    total = total_density(density)
    mean, roughness = local_statistics(total, ~ink, WINDOW_UM / 2 / mpp)
    glass = _glass_density(mean, roughness, ink)
    # 1. What is rough, or much denser than the glass.
    rough = (roughness > ROUGHNESS) | (mean - glass > EXCESS_DENSITY)
    # 2. Close gaps, then remove the rim. Ink counts as tissue here, so that tissue beside a pen
    # stroke is not eroded from that side.
    region = cv2.erode(_close(rough | ink, CLOSING_UM / mpp), disk(RIM_UM / mpp)).astype(bool)
    # 3. Of this keep what is stained at all, which frees the outline from clean glass.
    stained = cv2.GaussianBlur(total, (0, 0), PIXEL_NOISE_UM / mpp) > glass + FAINTEST_STAIN
    closed = _close(region & stained & ~ink, CLOSING_UM / mpp)
    # 4. Fill small holes, and drop small specks. In a region of interest that is small itself, a
    # quarter of the image is not a speck.
    gaps = remove_small_regions(1 - closed, MAX_HOLE_UM2 / mpp**2)
    smallest_px = min(MIN_TISSUE_UM2 / mpp**2, total.size / 4)
    tissue = remove_small_regions(((gaps == 0) & ~ink).astype(np.uint8), smallest_px).astype(bool)
    return Glass(tissue, pen)


def _close(mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.uint8]:
    """Close gaps by dilation and erosion.

    The border pixels are repeated outwards first. Otherwise the erosion would remove tissue that
    reaches the border of the image.
    """
    margin = round(2 * radius_px)
    padded = np.pad(mask.astype(np.uint8), margin, mode="edge")
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disk(radius_px))
    return closed[margin:-margin, margin:-margin].astype(np.uint8)


def _glass_density(
    mean: NDArray[np.float32], roughness: NDArray[np.float32], ink: NDArray[np.bool_]
) -> float:
    """Estimate a density that most of the bare glass does not exceed.

    It is 0 (white) where less than 1 % of the image is smooth and pale, because then there may be
    no glass in the image at all.
    """
    glass = (roughness < GLASS_ROUGHNESS) & ~ink & (mean < DARKEST_GLASS)
    return float(np.percentile(mean[glass], GLASS_PERCENTILE)) if glass.mean() > 0.01 else 0.0
