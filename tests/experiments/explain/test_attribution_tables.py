"""Tests of sums over the cells of a grid."""

from __future__ import annotations

import numpy as np

from tcgn_mil.experiments.explain.attribution_tables import block_sums


def test_sums_over_cells_keep_place_and_total() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 7, 7))
    fine = block_sums(values, (14, 14))
    np.testing.assert_allclose(fine[..., ::2, 1::2], values / 4)
    np.testing.assert_allclose(block_sums(fine, (7, 7)), values)
    np.testing.assert_allclose(block_sums(values, (5, 3)).sum(axis=(2, 3)), values.sum(axis=(2, 3)))
