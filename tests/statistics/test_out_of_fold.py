"""Statistics over patients against plain formulas, and what is known of their distribution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, pearsonr, spearmanr

from tcgn_mil.statistics.bootstrap import patient_bootstrap
from tcgn_mil.statistics.conformal import conformal_bounds
from tcgn_mil.statistics.fold_combination import combine_folds
from tcgn_mil.statistics.gene_metrics import gene_metrics
from tcgn_mil.statistics.out_of_fold import combined_r, fold_correlations, known_metrics
from tcgn_mil.statistics.p_values import (
    benjamini_hochberg,
    null_p_by_others,
    null_p_values,
    steiger_p,
)

M, G = 60, 7
FOLDS = np.repeat(np.arange(5), 12)


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((M, G)).astype(np.float32)
    predicted = (truth * np.linspace(0, 2, G) + rng.standard_normal((M, G))).astype(np.float32)
    return truth, predicted


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


def test_the_bootstrap_agrees_with_a_loop_over_the_same_draws(data: tuple) -> None:
    truth, predicted = data
    found = patient_bootstrap(truth, predicted, FOLDS, replicates=4, seed=3)
    rng = np.random.default_rng(3)
    rows = [np.flatnonzero(fold == FOLDS) for fold in range(5)]
    drawn = [rng.multinomial(12, np.full(12, 1 / 12), size=4) for _ in rows]
    for replicate in range(4):
        chosen = [
            np.repeat(part, counts[replicate]) for part, counts in zip(rows, drawn, strict=True)
        ]
        every = np.concatenate(chosen)
        fold_of = np.repeat(np.arange(5), [len(part) for part in chosen])
        np.testing.assert_allclose(
            found[replicate], combined_r(truth[every], predicted[every], fold_of).r, atol=2e-4
        )


def test_bootstrap_intervals_hold_the_true_r_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    rho, genes = 0.5, 400
    truth = rng.standard_normal((100, genes))
    predicted = rho * truth + np.sqrt(1 - rho**2) * rng.standard_normal((100, genes))
    drawn = patient_bootstrap(truth, predicted, np.repeat(np.arange(5), 20), replicates=400)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    assert 0.88 < np.mean((low < rho) & (rho < high)) < 0.98


def test_constant_and_unknown_genes_have_no_interval(data: tuple) -> None:
    truth, predicted = data
    truth[:, 1] = 4.2
    predicted[::12, 3], predicted[:, 4] = np.nan, np.nan
    drawn = patient_bootstrap(truth, predicted, FOLDS, replicates=5)
    assert np.isnan(drawn[:, [1, 4]]).all()
    assert np.isfinite(drawn[:, [0, 2, 3, 5, 6]]).all()  # 11 of each fold's 12 patients will do


def test_p_values_of_refits_count_null_values_at_or_above() -> None:
    null = np.array([[0.0, 1.0], [2.0, np.nan], [3.0, -1.0]])
    found = null_p_values(np.array([2.0, 4.0, np.nan]), null)
    np.testing.assert_allclose(found, [3 / 6, 1 / 6, np.nan])


def test_without_refits_the_null_is_wider_than_normal() -> None:
    assert null_p_values(np.array([1.645 * np.sqrt(2)]), None)[0] == pytest.approx(0.05, abs=1e-3)


def test_q_is_over_known_genes_only() -> None:
    q = benjamini_hochberg(np.array([0.01, np.nan, 0.04, 0.5]))
    np.testing.assert_allclose(q, [0.03, np.nan, 0.06, 0.5])


def test_steiger_agrees_with_the_published_example() -> None:
    """Steiger 1980, p. 247: n 103, r 0.4 and 0.5, 0.1 between them: Z = -0.89 by his formula 14."""
    p = steiger_p(np.array([0.4]), np.array([0.5]), np.array([0.1]), np.array([103]))
    assert norm.isf(p[0]) == pytest.approx(-0.89, abs=0.01)


def test_steiger_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    truth, noise, other = rng.standard_normal((3, 80, 4000))
    shared = rng.standard_normal((80, 4000))
    first, second = truth + shared + noise, truth + shared + other
    corr = lambda a, b: np.array([np.corrcoef(a[:, g], b[:, g])[0, 1] for g in range(a.shape[1])])  # noqa: E731
    p = steiger_p(corr(truth, first), corr(truth, second), corr(first, second), np.full(4000, 80))
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.012)


@pytest.mark.parametrize("stated", [0.8, 0.9])
def test_conformal_intervals_cover_what_they_state(stated: float) -> None:
    rng = np.random.default_rng(2)
    truth = rng.standard_t(4, (100, 300))
    bounds = conformal_bounds(
        truth, np.zeros_like(truth), np.repeat(np.arange(5), 20), stated=stated
    )
    assert bounds.coverage == pytest.approx(stated, abs=0.02)
    fresh = np.abs(rng.standard_t(4, (2000, 300))) <= bounds.half_width
    assert fresh.mean() == pytest.approx(stated, abs=0.02)


def test_too_few_patients_have_no_interval() -> None:
    bounds = conformal_bounds(
        np.zeros((6, 2)), np.ones((6, 2)), np.repeat(np.arange(3), 2), stated=0.9
    )
    assert np.isnan(bounds.half_width).all()
    assert np.isnan(bounds.coverage)
    assert np.isnan(
        conformal_bounds(np.zeros((30, 2)), np.ones((30, 2)), np.zeros(30, np.int64)).coverage
    )  # one fold


def test_r_is_within_cohorts_where_there_are_several(data: tuple) -> None:
    """What differs between cohorts alone is no r, and two cohorts of two folds are no four folds."""
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
    drawn = patient_bootstrap(truth, predicted, FOLDS, cohort_of, replicates=400, seed=0)
    best = combined_r(truth, predicted, FOLDS, cohort_of).r
    assert (np.percentile(drawn, 2.5, axis=0) < best).all()
    assert (np.percentile(drawn, 97.5, axis=0) > best).all()


def test_rows_of_a_person_are_resampled_together() -> None:
    """Six rows each of five people a fold, all alike but for noise: r over them is as uncertain as over five."""
    rng = np.random.default_rng(0)
    folds, people = np.repeat(np.arange(3), 30), np.repeat(np.arange(15), 6)
    truth, predicted = (
        rng.standard_normal((15, 40))[people] + 0.1 * rng.standard_normal((90, 40))
        for _ in range(2)
    )
    alone = patient_bootstrap(truth, predicted, folds, replicates=200)
    together = patient_bootstrap(truth, predicted, folds, donor_of=people, replicates=200)
    assert np.median(together.std(axis=0)) > 1.7 * np.median(alone.std(axis=0))


def test_pooled_metrics_leave_unknown_patients_out(data: tuple) -> None:
    truth, predicted = data
    whole = known_metrics(truth, predicted)
    for found, expected in zip(whole, gene_metrics(truth, predicted), strict=True):
        np.testing.assert_array_equal(found, expected)
    truth[5], truth[9, 2], predicted[20, 3] = np.nan, np.nan, np.nan
    found = known_metrics(truth, predicted)
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


def test_each_refit_is_judged_by_the_others() -> None:
    null_z = np.round(np.random.default_rng(0).standard_normal((9, 50)), 1)  # with ties
    null_z[2, 3:9] = np.nan
    for refit, found in enumerate(null_p_by_others(null_z)):
        np.testing.assert_allclose(
            found, null_p_values(null_z[refit], np.delete(null_z, refit, axis=0))
        )
