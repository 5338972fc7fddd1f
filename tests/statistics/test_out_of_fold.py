"""Correlation of out-of-fold predictions, against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from tcgn_mil.statistics.fold_combination import combine_folds
from tcgn_mil.statistics.gene_metrics import gene_metrics
from tcgn_mil.statistics.jackknife import gene_interval, jackknife
from tcgn_mil.statistics.out_of_fold import (
    combined_r,
    fold_correlations,
    patient_agreement,
    pooled_metrics,
)

M, G = 60, 7
FOLDS = np.repeat(np.arange(5), 12)


def test_r_within_folds_agrees_with_scipy_and_leaves_unknown_patients_out(data: tuple) -> None:
    truth, predicted = data
    truth[3, 2] = np.nan
    truth[:12, 4] = 5  # constant in a fold
    r, n = fold_correlations(truth, predicted, FOLDS)
    assert r.shape == n.shape == (5, G)
    assert n[0, 2] == 11
    assert np.isnan(r[0, 4])
    rows = np.array([row for row in range(12) if row != 3])
    assert r[0, 2] == pytest.approx(pearsonr(truth[rows, 2], predicted[rows, 2])[0], abs=1e-6)
    assert r[3, 6] == pytest.approx(pearsonr(truth[36:48, 6], predicted[36:48, 6])[0], abs=1e-6)
    z = np.arctanh(r[:, 2])
    weight = np.array([8, 9, 9, 9, 9])
    assert combined_r(truth, predicted, FOLDS).r[2] == pytest.approx(
        np.tanh((weight * z).sum() / weight.sum())
    )


def test_r_is_within_cohorts_where_there_are_several(data: tuple) -> None:
    """A difference between cohorts alone gives no r, and two cohorts of two folds are two folds."""
    rng = np.random.default_rng(1)
    cohort_of = np.tile(np.repeat([0, 1], 6), 5)
    truth, predicted = (5 * cohort_of[:, None] + rng.standard_normal((M, 200)) for _ in range(2))
    assert np.median(combined_r(truth, predicted, FOLDS).r) > 0.8
    assert abs(np.median(combined_r(truth, predicted, FOLDS, cohort_of).r)) < 0.05
    truth, predicted = data
    r, n = fold_correlations(truth, predicted, 2 * FOLDS + cohort_of)
    np.testing.assert_allclose(
        combined_r(truth, predicted, FOLDS, cohort_of).r, combine_folds(r, n).r
    )
    assert combined_r(truth, predicted, FOLDS, cohort_of).folds.tolist() == [5] * G
    two = FOLDS < 2
    assert np.isnan(combined_r(truth[two], predicted[two], FOLDS[two], cohort_of[two]).r).all()
    low, high = gene_interval(jackknife(truth, predicted, FOLDS, cohort_of))
    best = combined_r(truth, predicted, FOLDS, cohort_of).r
    assert (low < best).all()
    assert (high > best).all()


def test_pooled_metrics_leave_unknown_patients_out(data: tuple) -> None:
    truth, predicted = data
    whole = pooled_metrics(truth, predicted)
    for found, expected in zip(whole, gene_metrics(truth, predicted), strict=True):
        np.testing.assert_array_equal(found, expected)
    truth[5], truth[9, 2], predicted[20, 3] = np.nan, np.nan, np.nan
    found = pooled_metrics(truth, predicted)
    assert found.n.tolist() == [59, 59, 58, 58, 59, 59, 59]
    for gene in range(G):
        known = np.isfinite(truth[:, gene]) & np.isfinite(predicted[:, gene])
        left, right = truth[known, gene], predicted[known, gene]
        assert found.pearson[gene] == pytest.approx(pearsonr(left, right)[0], abs=1e-6)
        assert found.spearman[gene] == pytest.approx(spearmanr(left, right)[0], abs=1e-6)
        assert found.rmse[gene] == pytest.approx(np.sqrt(np.square(left - right).mean()), rel=1e-5)
        assert found.r2[gene] == pytest.approx(
            1 - np.square(left - right).mean() / left.var(), rel=1e-4
        )


def test_agreement_of_patients_agrees_with_plain_formulas(data: tuple) -> None:
    truth, predicted = data
    truth[4, 1] = np.nan
    truth[:, 5] = 3  # constant over patients
    truth[:, 6] = 3 + 1e-3 * predicted[:, 6]  # hardly varies, and would outweigh all others
    error, r = patient_agreement(truth, predicted)
    usable = [0, 1, 2, 3, 4]
    centre, spread = np.nanmean(truth[:, usable], axis=0), np.nanstd(truth[:, usable], axis=0)
    measured = (truth[:, usable] - centre) / spread
    expected = (predicted[:, usable] - centre) / spread
    np.testing.assert_allclose(error, np.nanmean((measured - expected) ** 2, axis=1), rtol=1e-6)
    assert r[7] == pytest.approx(pearsonr(measured[7], expected[7]).statistic, abs=1e-6)
    four = [0, 2, 3, 4]
    assert r[4] == pytest.approx(pearsonr(measured[4, four], expected[4, four]).statistic, abs=1e-6)
