"""Metrics against scipy, and the properties the protocol asks for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tcgn_mil.statistics.fold_combination import combine_folds
from tcgn_mil.statistics.gene_metrics import gene_metrics, pearson, spearman
from tcgn_mil.statistics.sequencing_depth import (
    depth_adjusted_pearson,
    headline,
    residuals_on_depth,
)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40, 6))
    return truth, (0.5 * truth + rng.normal(size=truth.shape)).round(1)  # rounding makes ties


def test_correlations_agree_with_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pair
    for gene in range(truth.shape[1]):
        assert pearson(truth, predicted)[gene] == pytest.approx(
            stats.pearsonr(truth[:, gene], predicted[:, gene])[0]
        )
        assert spearman(truth, predicted)[gene] == pytest.approx(
            stats.spearmanr(truth[:, gene], predicted[:, gene])[0]
        )


def test_errors_agree_with_their_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pair
    found = gene_metrics(truth, predicted)
    np.testing.assert_allclose(found.rmse, np.sqrt(((truth - predicted) ** 2).mean(0)))
    np.testing.assert_allclose(
        found.r2, 1 - ((truth - predicted) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
    )
    assert (found.n == 40).all()


@pytest.mark.parametrize("constant", [0.0, 3.3, 1e6])
def test_constant_genes_are_na_not_zero(
    pair: tuple[np.ndarray, np.ndarray], constant: float
) -> None:
    truth, predicted = (values.astype(np.float32) for values in pair)
    truth[:, 1] = constant
    predicted[:, 2] = constant
    r = pearson(truth, predicted)
    assert np.isnan(r[[1, 2]]).all()
    assert np.isfinite(r[[0, 3, 4, 5]]).all()
    assert np.isnan(gene_metrics(truth, predicted).r2[1])


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


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="must both be"):
        pearson(np.zeros((3, 2)), np.zeros((2, 3)))
