"""Where tiles lie: array functions of sizes and masks, which know no slide.

The grid is laid in µm (the spec's step is a float in level-0 pixels) and each corner then rounded on its own, so that
rounding does not add up across a slide and 20x and 40x scans of one tissue get the same fields.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from tcgn_mil.types.tile_geometry import TileSpec

OVERHANG_PX = (
    0.05  # resolution tags are rounded; a last tile that misses by less than this still fits
)


def lay_grid(
    slide_size: tuple[int, int], spec: TileSpec, *, downsample: float = 1.0
) -> NDArray[np.int64]:
    """Top-left corners of all tiles that lie wholly inside a slide.

    Parameters
    ----------
    slide_size
        Width and height of level 0.
    spec
        Side and step of the tiles.
    downsample
        That of the level to be read: corners fall on its whole pixels, so that a reader need not interpolate.

    Returns
    -------
    (N, 2) int64 level-0 x, y, row by row; (0, 2) for a slide smaller than a tile.
    """
    xs, ys = (_starts(side, spec, downsample) for side in slide_size)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _starts(side_px: int, spec: TileSpec, downsample: float) -> NDArray[np.int64]:
    room = side_px - spec.level0_px + OVERHANG_PX
    if room < 0:
        return np.empty(0, dtype=np.int64)
    steps = np.arange(int(room // spec.level0_stride_px) + 1) * spec.level0_stride_px
    starts = np.rint(np.rint(steps / downsample) * downsample)
    last = max(0.0, np.floor(room))
    return np.minimum(starts, last).astype(np.int64)


def tissue_fractions(
    mask: NDArray[np.bool_],
    coords: NDArray[np.int64],
    level0_px: float,
    slide_size: tuple[int, int],
) -> NDArray[np.float32]:
    """(N,) float32 share of each tile's area that a mask covers, in [0, 1]; parameters as :func:`tile_means`."""
    return np.clip(tile_means(mask, coords, level0_px, slide_size), 0, 1).astype(np.float32)


def tile_means(
    values: NDArray[np.bool_] | NDArray[np.floating],
    coords: NDArray[np.int64],
    level0_px: float,
    slide_size: tuple[int, int],
) -> NDArray[np.float64]:
    """Mean of a map over each tile, pixels of the map counted by their overlap with the tile.

    Parameters
    ----------
    values
        (h, w) over the whole slide, at any resolution.
    coords
        (N, 2) level-0 top-left corners.
    level0_px
        Side of a tile in level-0 pixels.
    slide_size
        Width and height of level 0.

    Returns
    -------
    (N,) float64.
    """
    height, width = values.shape
    scale = np.array([width / slide_size[0], height / slide_size[1]])
    low = np.asarray(coords, dtype=np.float64) * scale
    high = np.minimum(low + level0_px * scale, [width, height])
    integral = np.zeros((height + 1, width + 1))
    np.cumsum(np.cumsum(values, axis=0, dtype=np.float64), axis=1, out=integral[1:, 1:])

    def covered(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(map_coordinates(integral, [y, x], order=1, mode="nearest"))

    (left, top), (right, bottom) = low.T, high.T
    inside = (
        covered(right, bottom) - covered(left, bottom) - covered(right, top) + covered(left, top)
    )
    return np.asarray(inside / np.maximum((right - left) * (bottom - top), 1e-12))
