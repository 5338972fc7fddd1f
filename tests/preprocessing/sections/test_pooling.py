"""Bins and cells are summed over squares, and what lies in none is counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.pooling import pool_bins, pool_points, sum_groups


def grid(side: int, angle: float = 0.0) -> pd.DataFrame:
    y, x = (axis.ravel() for axis in np.mgrid[:side, :side])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pixels = np.column_stack([x, y]) * 16.0 @ turn.T + 300
    return pd.DataFrame({"x": x, "y": y, "pixel_x": pixels[:, 0], "pixel_y": pixels[:, 1]})


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2])
def test_the_centre_of_a_block_is_that_of_its_bins_in_a_turned_image(angle: float) -> None:
    bins = grid(12, angle)
    pooling = pool_bins(bins, bin_um=8.0, pool_um=33.0)
    means = bins.groupby(pooling.groups)[["pixel_x", "pixel_y"]].mean()
    assert np.allclose(pooling.positions[["pixel_x", "pixel_y"]], means)
    assert len(means) == 9


def test_the_centre_of_a_block_stays_where_bins_are_missing() -> None:
    bins = grid(12)
    some = bins.drop(index=[0, 1, 2])
    whole, partial = (pool_bins(table, 8.0, 32.0).positions for table in (bins, some))
    assert np.allclose(whole[["pixel_x", "pixel_y"]], partial[["pixel_x", "pixel_y"]])


def test_no_count_is_lost_or_counted_twice() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-200, 900, (500, 2))
    counts = sparse.csr_matrix(rng.poisson(1, (500, 4)))
    pooling = pool_points(points, mpp=0.5, pool_um=50.0, what="cells")
    summed = pooling.sum_rows(counts)
    assert np.array_equal(np.asarray(summed.sum(axis=0)), np.asarray(counts.sum(axis=0)))
    few = pool_points(points, mpp=0.5, pool_um=50.0, what="cells", fewest=5)
    kept = few.groups >= 0
    assert few.sum_rows(counts).sum() == counts[np.flatnonzero(kept)].sum()
    assert f"{(~kept).sum()} cells lie in squares that were left out" in few.note
    assert {reason for _, reason in few.dropped} == {"has fewer than 5 cells"}


def test_rows_of_no_group_are_left_out() -> None:
    counts = sparse.csr_matrix(np.eye(3))
    assert sum_groups(counts, np.array([1, -1, 1]), 2).toarray().tolist() == [[0, 0, 0], [1, 0, 1]]


def test_a_size_that_no_square_fills_is_refused() -> None:
    with pytest.raises(InputError, match="none of 1 blocks of 40 x 40 bins has half") as caught:
        pool_bins(grid(12), 8.0, 320.0)
    assert "--pool-um" in str(caught.value.fix)
