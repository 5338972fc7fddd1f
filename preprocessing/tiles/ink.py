"""Marker ink and black scanner borders: what is dark but has a colour that haematoxylin and eosin cannot mix.

In the plane of colour shares (each channel's part of the optical density) H&E tissue fills a small region, and blue,
green, cyan, violet and black inks lie outside it. The bounds below leave out no tissue of 35 images from 12 organs and
several scanners. Red ink has the colour of blood; only a density that blood rarely reaches tells them apart. Violet ink
has the colour of dense nuclei; what tells it is that it is flat: in those images no tissue so dense varies so little.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SMOOTHING_UM = 16.0  # single dark nuclei leave the region, their neighbourhoods do not
SMALLEST_INK_UM2 = 20_000.0  # a stroke; pigment and debris are smaller
FLAT_UM = 20.0
FLATTEST_TISSUE = (
    0.075  # sd over mean of the density; dense tissue has 0.084 at least, violet ink on glass 0.005
)
EDGE_UM = 40.0  # thin ink around a stroke has the colour of nothing in particular


def optical_density(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 -> float32 absorbance, -log10(I / 255), at most 2.41 (black)."""
    table = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
    return table[pixels]


class Ink(NamedTuple):
    """Where the slide is hidden, (h, w) bool: by anything, and by a pen; a black border of the scan is no pen."""

    any: NDArray[np.bool_]
    pen: NDArray[np.bool_]


def find_ink(density: NDArray[np.float32], mpp: float) -> Ink:
    """Where ink or a black border hides the slide.

    Parameters
    ----------
    density
        (H, W, 3) optical density, RGB.
    mpp
        Micrometres per pixel, 4 to 16.

    Returns
    -------
    Both with a margin of `EDGE_UM`.
    """
    smooth = cv2.GaussianBlur(density, (0, 0), SMOOTHING_UM / mpp)
    total = smooth.sum(axis=2)
    red, green, blue = np.moveaxis(smooth / np.maximum(total, 1e-3)[..., None], 2, 0)
    green_ink = (red - green > 0.08) & (total > 0.4)
    blue_ink = (red + green / 2 - 1.5 * blue > 0.36) & (total > 0.4)
    red_ink = (blue > 0.38) & (red < 0.15) & (total > 1.4)
    grey = (
        (np.abs(red - green) < 0.1) & (np.abs(blue - green) < 0.07) & (total > 0.35)
    )  # also the rim of a bubble
    mean, spread = local_statistics(
        density.sum(axis=2), np.ones(total.shape, dtype=bool), FLAT_UM / mpp
    )
    flat = (mean > 1.0) & (spread < FLATTEST_TISSUE * mean) & (red > 0.2)
    ink = remove_small_regions(
        (green_ink | blue_ink | red_ink | grey | flat).astype(np.uint8), SMALLEST_INK_UM2 / mpp**2
    )
    edge = disk(EDGE_UM / mpp)
    hidden = cv2.dilate(ink, edge).astype(bool)
    border = cv2.dilate(_touching_the_edge(ink & grey), edge).astype(bool)
    return Ink(hidden, hidden & ~border)


def _touching_the_edge(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The 8-connected regions that reach the image's edge."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    at_edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, at_edge[at_edge > 0]).astype(np.uint8)


def local_statistics(
    values: NDArray[np.float32], counts: NDArray[np.bool_], sigma_px: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gaussian-weighted mean and standard deviation around each pixel, over pixels that count."""
    weight = counts.astype(np.float32)
    total, first, second = (
        cv2.GaussianBlur(layer, (0, 0), sigma_px)
        for layer in (weight, values * weight, values**2 * weight)
    )
    total = np.maximum(total, np.float32(1e-6))
    mean = first / total
    return mean, np.sqrt(np.maximum(second / total - mean**2, 0)).astype(np.float32)


def remove_small_regions(mask: NDArray[np.uint8], smallest_px: float) -> NDArray[np.uint8]:
    """Keep the 8-connected regions of at least `smallest_px` pixels."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    large = statistics[:, cv2.CC_STAT_AREA] >= smallest_px
    large[0] = False  # label 0 is what the mask leaves out
    return large[labels].astype(np.uint8)


def disk(radius_px: float) -> NDArray[np.uint8]:
    """Structuring element of about `radius_px`."""
    side = 2 * max(1, round(radius_px)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)
