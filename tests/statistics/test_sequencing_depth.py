"""Correlation of spots once sequencing depth is removed."""

from __future__ import annotations

import numpy as np
import pytest

from tcgn_mil.statistics.gene_metrics import pearson
from tcgn_mil.statistics.sequencing_depth import (
    depth_adjusted_pearson,
    headline,
    residuals_on_depth,
)


def test_a_function_of_depth_scores_nothing_after_adjustment() -> None:
    rng = np.random.default_rng(1)
    depth = rng.normal(8, 1, size=300)
    truth = np.column_stack([depth + rng.normal(size=300), rng.normal(size=300)])
    follows_depth = np.column_stack(
        [depth**2 + 0.3 * rng.normal(size=300), depth + 0.3 * rng.normal(size=300)]
    )
    assert pearson(truth, follows_depth)[0] > 0.5
    assert abs(depth_adjusted_pearson(truth, follows_depth, depth)[0]) < 0.15
    assert np.isnan(depth_adjusted_pearson(truth, np.column_stack([depth, depth]), depth)).all()


def test_adjustment_keeps_signal_beyond_depth() -> None:
    rng = np.random.default_rng(2)
    depth, signal = rng.normal(8, 1, size=300), rng.normal(size=300)
    truth = (depth + signal)[:, None]
    predicted = (signal + 0.2 * rng.normal(size=300))[:, None]
    assert depth_adjusted_pearson(truth, predicted, depth)[0] > 0.9


def test_residuals_are_orthogonal_to_depth() -> None:
    rng = np.random.default_rng(3)
    depth = rng.normal(size=200)
    residual = residuals_on_depth(rng.normal(size=(200, 3)) + depth[:, None], depth)
    assert np.abs(residual.T @ depth).max() < 1e-8
    assert np.abs(residual.mean(0)).max() < 1e-10


def test_headline_counts_well_seen_genes_only() -> None:
    assert headline(np.array([0.1, 0.3, 0.9]), np.array([0.2, 0.5, 0.19])) == pytest.approx(0.2)
    assert np.isnan(headline(np.array([np.nan]), np.array([0.5])))
