"""Find marker ink and black scanner borders by colours that haematoxylin and eosin cannot mix.

Colour is measured as the share of each channel in the optical density. In this plane H&E tissue
fills a small region, whatever its strength, and blue, green, cyan and black inks are outside it.
The bounds below exclude no tissue in 35 images of 12 organs and several scanners.

Two inks need more than colour. Red ink has the colour of blood, and is told by a density that blood
rarely reaches. Violet ink has the colour of dense nuclei, and is told by being flat: in those
images no tissue of that density varies so little.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Single dark nuclei leave the region of tissue colours; averaged over this width they do not.
SMOOTHING_UM = 16.0
MIN_INK_UM2 = 20_000.0  # a pen stroke is larger, pigment and debris are smaller
FLAT_UM = 20.0  # standard deviation of the window in which flatness is measured
# Standard deviation over mean of the density. Dense tissue has at least 0.084, and violet ink on
# glass 0.005.
FLATTEST_TISSUE = 0.075
# The thin ink at the edge of a stroke mixes with the colour beneath, so it is not recognised. It is
# covered by a margin of this width.
EDGE_UM = 40.0
# Channels of a grey pixel differ by no more than this, of 255, even after JPEG. Pen, borders and
# bubbles of a scan with colours differ by more, so that no slide is grey for want of tissue.
GREY_LEVELS = 3.5
LEAST_COLOURED = 1e-4  # share of the pixels; a biopsy covers more of its slide
_PARTS = 16


class Ink(NamedTuple):
    """Places where the slide cannot be seen, as masks (h, w) bool.

    Attributes
    ----------
    any
        Hidden by ink or by a black border of the scan.
    pen
        Hidden by ink.
    """

    any: NDArray[np.bool_]
    pen: NDArray[np.bool_]


def optical_density(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the optical density, -log10(intensity / 255).

    Parameters
    ----------
    pixels
        uint8 intensities of any shape.

    Returns
    -------
    float32 array of the same shape
        From 0 (white) to 2.41 (black; an intensity of 0 counts as 1).

    Examples
    --------
    >>> [f"{density:.2f}" for density in optical_density(np.array([0, 25, 200], dtype=np.uint8))]
    ['2.41', '1.01', '0.11']
    """
    table = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
    # OpenCV looks values up several times faster than NumPy does.
    return np.asarray(cv2.LUT(pixels, table), dtype=np.float32).reshape(pixels.shape)


def total_density(density: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum of the density over red, green and blue, (H, W), of an (H, W, 3) array.

    It has the bits of ``density.sum(axis=2)``, which takes twenty times as long because NumPy sums
    three values at a time.
    """
    red, green, blue = cv2.split(density)
    return np.asarray((red + green) + blue, dtype=np.float32)


def find_ink(density: NDArray[np.float32], mpp: float) -> Ink:
    """Find ink and black borders.

    Parameters
    ----------
    density
        (H, W, 3) optical density of RGB.
    mpp
        Micrometres per pixel, 4 to 16.

    Returns
    -------
    Ink
        Both masks with a margin of `EDGE_UM`.
    """
    if is_grey(density):
        return _ink_without_colour(total_density(density), mpp)
    smooth = cv2.GaussianBlur(density, (0, 0), SMOOTHING_UM / mpp)
    total = total_density(np.asarray(smooth, dtype=np.float32))
    # Shares of the density, which sum to 1: a stain keeps its shares at any strength. White glass
    # has no defined shares, so each rule below also needs a least density.
    red, green, blue = np.moveaxis(smooth / np.maximum(total, 1e-3)[..., None], 2, 0)
    green_ink = (red - green > 0.08) & (total > 0.4)
    blue_ink = (red + green / 2 - 1.5 * blue > 0.36) & (total > 0.4)
    red_ink = (blue > 0.38) & (red < 0.15) & (total > 1.4)
    # Black ink, the scan's border, and the dark rim of an air bubble.
    grey = (np.abs(red - green) < 0.1) & (np.abs(blue - green) < 0.07) & (total > 0.35)
    mean, spread = local_statistics(
        total_density(density), np.ones(total.shape, dtype=bool), FLAT_UM / mpp
    )
    flat = (mean > 1.0) & (spread < FLATTEST_TISSUE * mean) & (red > 0.2)
    ink = remove_small_regions(
        (green_ink | blue_ink | red_ink | grey | flat).astype(np.uint8), MIN_INK_UM2 / mpp**2
    )
    edge = disk(EDGE_UM / mpp)
    hidden = cv2.dilate(ink, edge).astype(bool)
    # Black that reaches the edge of the image is the border of the scan, not a pen.
    border = cv2.dilate(_touching_the_edge(ink & grey), edge).astype(bool)
    return Ink(hidden, hidden & ~border)


def is_grey(density: NDArray[np.float32]) -> bool:
    """Return whether an image has grey values only, as scans without colours have.

    Parameters
    ----------
    density
        (H, W, 3) optical density of RGB.

    Examples
    --------
    >>> is_grey(optical_density(np.full((9, 9, 3), 200, dtype=np.uint8)))
    True
    """
    coloured, least = 0, LEAST_COLOURED * density.shape[0] * density.shape[1]
    # The first part of an image with colours has enough of them, so that the others are not looked
    # at. Parts take rows from all over the image.
    for first in range(_PARTS):
        levels = 255 * 10 ** -density[first::_PARTS]
        coloured += int((np.ptp(levels, axis=2) > GREY_LEVELS).sum())
        if coloured >= least:
            return False
    return True


def _ink_without_colour(total: NDArray[np.float32], mpp: float) -> Ink:
    """Find ink in a grey image, where colour cannot tell it from tissue.

    Only what is dense and flat counts, as violet ink does in images with colours.
    """
    mean, spread = local_statistics(total, np.ones(total.shape, dtype=bool), FLAT_UM / mpp)
    flat = ((mean > 1.0) & (spread < FLATTEST_TISSUE * mean)).astype(np.uint8)
    ink = remove_small_regions(flat, MIN_INK_UM2 / mpp**2)
    edge = disk(EDGE_UM / mpp)
    hidden = cv2.dilate(ink, edge).astype(bool)
    border = cv2.dilate(_touching_the_edge(ink), edge).astype(bool)
    return Ink(hidden, hidden & ~border)


def _touching_the_edge(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep the 8-connected regions that reach the image's edge."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    at_edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return np.isin(labels, at_edge[at_edge > 0]).astype(np.uint8)


def local_statistics(
    values: NDArray[np.float32], counts: NDArray[np.bool_], sigma_px: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compute the mean and the standard deviation around each pixel.

    Parameters
    ----------
    values
        (h, w) map.
    counts
        (h, w) bool, the pixels to use. The others have weight 0, so they do not bleed into their
        neighbours.
    sigma_px
        Standard deviation of the Gaussian weights in pixels.

    Returns
    -------
    Two (h, w) float32 maps
        Mean E[x] and standard deviation sqrt(E[x^2] - E[x]^2) under the weights.
    """
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
    large[0] = False  # label 0 is the background
    return large[labels].astype(np.uint8)


def disk(radius_px: float) -> NDArray[np.uint8]:
    """Make a round structuring element of about `radius_px`, at least 3 x 3 pixels."""
    side = 2 * max(1, round(radius_px)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)
