"""Attention on the edges of the tissue is measured on any arrangement of tiles."""

from __future__ import annotations

import numpy as np

from tcgn_mil.interpret.attention_edges import edge_attention, is_edge_tile

GRID = np.stack(np.meshgrid(np.arange(8) * 112, np.arange(8) * 112), axis=-1).reshape(-1, 2)


def test_tiles_at_the_rim_and_at_a_hole_are_edges() -> None:
    hole = ~((GRID[:, 0] == 336) & (GRID[:, 1] == 336))
    edge = is_edge_tile(GRID[hole], 111.7)
    assert edge.sum() == 28 + 4
    assert not is_edge_tile(GRID, 111.7)[9]


def test_overlapping_tiles_have_neighbours_too() -> None:
    close = np.stack(np.meshgrid(np.arange(20) * 50, np.arange(20) * 50), axis=-1).reshape(-1, 2)
    edge = is_edge_tile(close, 100)
    inner = (close.min(axis=1) >= 100) & (close.max(axis=1) <= 850)
    assert not edge[inner].any()
    assert edge[(close == 0).any(axis=1)].all()


def test_attention_is_high_on_edges_only_where_it_is_much_above_that_inside() -> None:
    edge = is_edge_tile(GRID, 112)
    assert edge_attention(GRID, 112, np.where(edge, 4.0, 1.0)).is_high
    assert not edge_attention(GRID, 112, np.where(edge, 1.5, 1.0)).is_high
    few = GRID[:8]
    assert not edge_attention(few, 112, np.ones(8)).is_high  # no inner tile to compare with
    assert edge_attention(GRID, 112, np.zeros(64)).attention_share == 0
