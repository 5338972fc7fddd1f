"""Measure how much of a slide's attention lies on the edges of its tissue.

Edges are where sections fold, where ink and out-of-focus tissue gather, and where tiles are half
glass. A model that looks mainly there may have learned from artefacts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

_FEWEST_INNER = 10  # of fewer inner tiles the mean says little
_TIMES_INNER, _LEAST_SHARE = 2.0, 1 / 3


class EdgeAttention(NamedTuple):
    """Attention on the tiles at the edges of the tissue.

    Attributes
    ----------
    tile_share
        Share, 0 to 1, of the tiles that are at an edge.
    attention_share
        Share, 0 to 1, of the slide's attention that they have.
    is_high
        True if a tile at an edge has at least twice the attention of an inner tile on average, and
        edges have at least a third of all attention.
    """

    tile_share: float
    attention_share: float
    is_high: bool


def is_edge_tile(coords: NDArray[np.integer], side: float) -> NDArray[np.bool_]:
    """Return which tiles lie beside a place without a tile, on any of their four sides.

    Parameters
    ----------
    coords
        (N, 2) top-left corners.
    side
        Side of a tile, in the unit of `coords`.

    Returns
    -------
    (N,) bool

    Examples
    --------
    >>> grid = np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2) * 100
    >>> is_edge_tile(grid, 100).sum()  # all but the one in the middle
    np.int64(8)
    """
    tree = cKDTree(coords)
    inner = np.ones(len(coords), dtype=bool)
    for step in ((side, 0), (-side, 0), (0, side), (0, -side)):
        # Tiles need not be on one grid; a neighbour covers at least half of the place beside.
        away, _ = tree.query(coords + np.array(step), p=np.inf, distance_upper_bound=side / 2)
        inner &= np.isfinite(away)
    return ~inner


def edge_attention(
    coords: NDArray[np.integer], side: float, attention: NDArray[np.floating]
) -> EdgeAttention:
    """Return how much of the attention of a slide lies on the edges of its tissue.

    Parameters
    ----------
    coords, side
        (N, 2) top-left corners of the tiles, and the side of a tile.
    attention
        (N,) attention, at least 0.

    Examples
    --------
    >>> grid = np.stack(np.meshgrid(range(9), range(9)), axis=-1).reshape(-1, 2)
    >>> on_edges = np.where(is_edge_tile(grid, 1), 5.0, 1.0)
    >>> edge_attention(grid, 1, on_edges).is_high, edge_attention(grid, 1, np.ones(81)).is_high
    (True, False)
    """
    edge = is_edge_tile(coords, side)
    total = float(attention.sum())
    share = float(attention[edge].sum()) / total if total > 0 else 0.0
    enough = edge.any() and (~edge).sum() >= _FEWEST_INNER
    high = (
        enough
        and share >= _LEAST_SHARE
        and float(attention[edge].mean()) >= _TIMES_INNER * float(attention[~edge].mean())
    )
    return EdgeAttention(float(edge.mean()), share, bool(high))
