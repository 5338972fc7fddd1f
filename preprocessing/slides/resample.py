"""Resample pixels, in one way for ST patches and slide tiles, so that both are equally sharp."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def resample(pixels: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Resample a square image.

    Parameters
    ----------
    pixels
        (H, W, 3) uint8.
    size_px
        Side of the result in pixels. If the image has this size already, it is returned as it is.

    Returns
    -------
    (size_px, size_px, 3) uint8

    Examples
    --------
    >>> resample(np.zeros((155, 155, 3), dtype=np.uint8), 112).shape
    (112, 112, 3)
    """
    return resample_to(pixels, size_px, size_px)


def resample_to(pixels: NDArray[np.uint8], width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Resample an image, by area averages where it shrinks and by bicubic curves where it grows.

    Parameters
    ----------
    pixels
        (H, W, 3) uint8.
    width_px, height_px
        Size of the result in pixels.

    Returns
    -------
    (height_px, width_px, 3) uint8
    """
    height, width = pixels.shape[:2]
    if (width, height) == (width_px, height_px):
        return pixels
    # Area averaging weighs each source pixel by its overlap with the target pixel. Bilinear and
    # bicubic kernels of fixed size skip pixels when the image shrinks by a ratio such as 1.38
    # (0.5 to 0.69 µm/px), and the edges of nuclei alias.
    shrinks = width_px <= width and height_px <= height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = cv2.resize(pixels, (width_px, height_px), interpolation=method)
    return np.asarray(resized, dtype=np.uint8)
