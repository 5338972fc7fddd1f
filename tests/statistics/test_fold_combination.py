"""Correlations of folds are combined by Fisher z."""

from __future__ import annotations

import numpy as np
import pytest

from tcgn_mil.statistics.fold_combination import combine_folds
from tcgn_mil.statistics.gene_metrics import pearson


def test_folds_combine_by_fisher_z_weighted_by_n_minus_3() -> None:
    r = np.array([[0.2, 0.5], [0.4, np.nan], [0.1, 0.3], [0.9, 0.9]])
    n = np.array([10, 20, 30, 3])  # the last fold is too small to count
    combined = combine_folds(r, n)
    weights = np.array([7, 17, 27])
    assert combined.r[0] == pytest.approx(
        np.tanh((weights * np.arctanh(r[:3, 0])).sum() / weights.sum())
    )
    assert np.isnan(combined.r[1])  # two usable folds are too few
    assert combined.folds.tolist() == [3, 2]


def test_fold_mean_is_unbiased_where_pooling_is_not() -> None:
    """Predicting the training mean of the outcome gives negative pooled r, and no fold-wise r."""
    rng = np.random.default_rng(4)
    truth = rng.normal(size=(50, 200))
    fold = np.arange(50) % 5
    predicted = np.empty_like(truth)
    for index in range(5):
        noise = 0.05 * rng.normal(size=(10, 200))
        predicted[fold == index] = truth[fold != index].mean(0) + noise
    by_fold = np.stack([pearson(truth[fold == i], predicted[fold == i]) for i in range(5)])
    assert np.median(pearson(truth, predicted)) < -0.2
    assert abs(np.median(combine_folds(by_fold, np.full(5, 10)).r)) < 0.05
