"""Lay a grid of tiles, and average maps over tiles. These functions know sizes and masks only.

The grid is laid in micrometres: the step in level-0 pixels is a floating-point number, and the
corner of each tile is rounded by itself. If the step were rounded instead, the error would add up
across the slide, and scans of the same tissue at 20x and 40x would get different fields.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from tcgn_mil.types.tile_geometry import TileSpec

# Resolution tags are rounded. A last tile that exceeds the slide by less than this still fits.
OVERHANG_PX = 0.05


def lay_grid(
    slide_size: tuple[int, int], spec: TileSpec, *, downsample: float = 1.0
) -> NDArray[np.int64]:
    """Lay a grid of tiles that are wholly inside a slide.

    Parameters
    ----------
    slide_size
        Width and height of level 0 in pixels.
    spec
        Side and step of the tiles.
    downsample
        Downsample of the pyramid level that will be read. Corners are placed on whole pixels of
        this level, so that a reader need not interpolate.

    Returns
    -------
    (N, 2) int64
        Top-left corners in level-0 pixels, x then y, row by row. N is 0 for a slide that is smaller
        than a tile.

    Examples
    --------
    >>> from tcgn_mil.types.tile_geometry import PatchSize
    >>> spec = TileSpec.for_slide(PatchSize(100, 0.5), slide_mpp=0.25, level_downsamples=[1.0])
    >>> lay_grid((500, 250), spec).tolist()
    [[0, 0], [200, 0]]
    """
    xs, ys = (_starts(side, spec, downsample) for side in slide_size)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _starts(side_px: int, spec: TileSpec, downsample: float) -> NDArray[np.int64]:
    """Return the starts of tiles along one side of the slide."""
    room = side_px - spec.level0_px + OVERHANG_PX
    if room < 0:
        return np.empty(0, dtype=np.int64)
    steps = np.arange(int(room // spec.level0_stride_px) + 1) * spec.level0_stride_px
    starts = np.rint(np.rint(steps / downsample) * downsample)
    last = max(0.0, np.floor(room))  # rounding may have moved the last tile out of the slide
    return np.minimum(starts, last).astype(np.int64)


def tissue_fractions(
    mask: NDArray[np.bool_],
    coords: NDArray[np.int64],
    level0_px: float,
    slide_size: tuple[int, int],
) -> NDArray[np.float32]:
    """Compute the share of each tile's area that a mask covers.

    Parameters
    ----------
    mask
        (h, w) bool over the whole slide, at any resolution.
    coords, level0_px, slide_size
        As in :func:`tile_means`.

    Returns
    -------
    (N,) float32 in [0, 1]

    Examples
    --------
    >>> left_half = np.array([[True, False]])
    >>> coords = np.array([[0, 0], [50, 0], [75, 0]])
    >>> tissue_fractions(left_half, coords, level0_px=100, slide_size=(200, 100)).tolist()
    [1.0, 0.5, 0.25]
    """
    return np.clip(tile_means(mask, coords, level0_px, slide_size), 0, 1).astype(np.float32)


def tile_means(
    values: NDArray[np.bool_] | NDArray[np.floating],
    coords: NDArray[np.int64],
    level0_px: float,
    slide_size: tuple[int, int],
) -> NDArray[np.float64]:
    """Average a map over each tile; a pixel of the map counts by its overlap with the tile.

    Parameters
    ----------
    values
        (h, w) map over the whole slide, at any resolution.
    coords
        (N, 2) top-left corners in level-0 pixels.
    level0_px
        Side of a tile in level-0 pixels.
    slide_size
        Width and height of level 0 in pixels.

    Returns
    -------
    (N,) float64
    """
    height, width = values.shape
    scale = np.array([width / slide_size[0], height / slide_size[1]])
    low = np.asarray(coords, dtype=np.float64) * scale
    high = np.minimum(low + level0_px * scale, [width, height])
    # Integral image: integral[y, x] is the sum of all pixels above y and left of x. The sum over a
    # rectangle takes four look-ups, whatever its size:
    #     S(right, bottom) - S(left, bottom) - S(right, top) + S(left, top).
    # Corners that lie between pixels are interpolated linearly. That is exact, because the integral
    # of a piecewise constant map is bilinear within each pixel.
    integral = np.zeros((height + 1, width + 1))
    np.cumsum(np.cumsum(values, axis=0, dtype=np.float64), axis=1, out=integral[1:, 1:])

    def total(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(map_coordinates(integral, [y, x], order=1, mode="nearest"))

    (left, top), (right, bottom) = low.T, high.T
    inside = total(right, bottom) - total(left, bottom) - total(right, top) + total(left, top)
    return np.asarray(inside / np.maximum((right - left) * (bottom - top), 1e-12))
