"""Correlation and partial correlation over patients, against scipy and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tcgn_mil.statistics.correlation import (
    pearson_over_patients,
    spearman_over_patients,
    without_covariates,
)
from tcgn_mil.statistics.fold_combination import fold_null_sd
from tcgn_mil.statistics.jackknife import gene_interval, jackknife
from tcgn_mil.statistics.kruskal_wallis import kruskal_wallis
from tcgn_mil.statistics.ranks import patient_ranks


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_correlations_are_those_of_scipy(rng: np.random.Generator) -> None:
    x = rng.normal(size=(40, 3))
    y = np.round(x + rng.normal(size=x.shape), 1)
    for ours, theirs in (
        (pearson_over_patients, stats.pearsonr),
        (spearman_over_patients, stats.spearmanr),
    ):
        found = ours(x, y)
        expected = [theirs(x[:, gene], y[:, gene]) for gene in range(3)]
        np.testing.assert_allclose(found.r, [one.statistic for one in expected], atol=1e-12)
        np.testing.assert_allclose(found.p, [one.pvalue for one in expected], rtol=1e-9)
        assert found.n.tolist() == [40, 40, 40]
        assert np.isnan(found.low).all()
    one_sided = pearson_over_patients(x, y, one_sided=True)
    np.testing.assert_allclose(one_sided.p, pearson_over_patients(x, y).p / 2)


def test_one_column_against_many(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(30, 300)), rng.normal(size=(30, 1))
    found = spearman_over_patients(x, y)
    np.testing.assert_allclose(found.r[270], stats.spearmanr(x[:, 270], y[:, 0]).statistic)


def test_missing_values_leave_out_the_patient_for_that_gene(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    x[:4, 0], y[3:6, 0] = np.nan, np.nan
    found = spearman_over_patients(x, y)
    assert found.n.tolist() == [14, 20]
    np.testing.assert_allclose(found.r[0], stats.spearmanr(x[6:, 0], y[6:, 0]).statistic)


def test_constants_and_empty_genes_have_no_answer(rng: np.random.Generator) -> None:
    x = np.column_stack([np.full(10, 0.1), np.full(10, np.nan), rng.normal(size=10)])
    found = pearson_over_patients(x, rng.normal(size=(10, 3)), interval=True)
    for values in found:
        assert np.isnan(values).tolist() == [True, True, False]


def test_tails_that_would_overflow_single_precision() -> None:
    x = np.array([[1e30], [2e30], [3e30], [5e30]])
    assert pearson_over_patients(x, x).r == pytest.approx([1.0])


def test_folds_are_combined_by_fisher_z_weighted_by_n_minus_3(rng: np.random.Generator) -> None:
    folds = np.repeat([0, 1, 2], [10, 20, 30])
    x, shift = rng.normal(size=(60, 1)), 100 * folds[:, None]
    y = x + rng.normal(size=(60, 1))
    found = pearson_over_patients(x - shift, y + shift, folds, one_sided=True)
    r = np.array(
        [stats.pearsonr(x[folds == fold, 0], y[folds == fold, 0]).statistic for fold in range(3)]
    )
    z = np.average(np.arctanh(r), weights=[7, 17, 27])
    np.testing.assert_allclose(found.r, np.tanh(z))
    np.testing.assert_allclose(found.p, stats.norm.sf(z * np.sqrt(51) / np.sqrt(2)))
    assert np.isnan(pearson_over_patients(x, y, np.minimum(folds, 1)).r).all()


def test_the_interval_is_that_of_the_jackknife(rng: np.random.Generator) -> None:
    x = rng.normal(size=(200, 400))
    y = x + rng.normal(size=x.shape)
    found = pearson_over_patients(x, y, interval=True)
    truth = 2**-0.5
    assert np.mean((found.low <= truth) & (truth <= found.high)) == pytest.approx(0.95, abs=0.03)
    values = jackknife(x, y, np.zeros(200, dtype=int), min_folds=1)
    np.testing.assert_array_equal(found.low, gene_interval(values).low)
    assert np.isnan(pearson_over_patients(x, y).low).all()


@pytest.mark.parametrize("patients", [60, 270])
def test_the_interval_over_folds_covers_what_the_module_says(
    rng: np.random.Generator, patients: int
) -> None:
    x = rng.normal(size=(patients, 1000))
    y = 0.3 * x + 0.91**0.5 * rng.normal(size=x.shape)
    folds = np.arange(patients) % 5
    found = pearson_over_patients(x, y, folds, interval=True)
    assert np.mean((found.low <= 0.3) & (found.high >= 0.3)) == pytest.approx(0.95, abs=0.02)
    found = spearman_over_patients(x, y, folds, interval=True)
    spearman = 6 / np.pi * np.arcsin(0.15)  # of normal values with r = 0.3
    inside = (found.low <= spearman) & (found.high >= spearman)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_the_partial_interval_counts_what_covariates_cost(rng: np.random.Generator) -> None:
    """Images and expression share nothing, so that r given the covariates is 0."""
    covariates, folds = rng.normal(size=(60, 3)), np.arange(60) % 5
    x, y = (
        without_covariates(
            rng.normal(size=(60, 1000)) + covariates.sum(1)[:, None], covariates, folds
        )
        for _ in range(2)
    )
    found = pearson_over_patients(
        x.values, y.values, folds, spent=x.spent, ranks=True, interval=True
    )
    middle = np.median(found.r)  # ranks do not remove all of a sum of covariates
    assert np.mean((found.low < middle) & (middle < found.high)) > 0.92
    forgotten = pearson_over_patients(x.values, y.values, folds, ranks=True, interval=True)
    assert np.mean((forgotten.low < middle) & (middle < forgotten.high)) < 0.92


def test_p_is_uniform_where_there_is_nothing(rng: np.random.Generator) -> None:
    found = pearson_over_patients(
        rng.normal(size=(50, 2000)), rng.normal(size=(50, 2000)), one_sided=True
    )
    assert np.mean(found.p < 0.05) == pytest.approx(0.05, abs=0.015)


def out_of_fold(images: np.ndarray, expression: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Ridge regression on the other folds, whose genes share one axis, as those of a network do."""
    found = np.empty_like(expression)
    for fold in np.unique(folds):
        train = folds != fold
        x, y = (
            images[train] - images[train].mean(axis=0),
            expression[train] - expression[train].mean(axis=0),
        )
        axis = np.linalg.svd(y, full_matrices=False)[2][:1]
        weights = np.linalg.solve(x.T @ x + 50 * np.eye(x.shape[1]), x.T @ y)
        found[~train] = images[~train] @ weights @ axis.T @ axis
    return found


@pytest.mark.parametrize(("shared", "least", "most"), [(0.0, 0.03, 0.07), (0.95, 0.02, 0.09)])
def test_p_of_predictions_against_a_covariate_that_genes_know(
    shared: float, least: float, most: float
) -> None:
    """Images tell nothing; with genes that follow the covariate a null sd of 1 would fail."""
    rng = np.random.default_rng(0)
    p, naive, levels, naive_levels = [], [], [], []
    for _ in range(200):
        folds = rng.permutation(150) % 5
        images, axis = rng.normal(size=(150, 20)), rng.normal(size=(150, 1))
        measured = axis + 0.1 * rng.normal(size=(150, 6))
        score = shared * axis + np.sqrt(1 - shared**2) * rng.normal(size=(150, 1))
        predicted = out_of_fold(images, measured, folds)[:, :1]
        known = np.square(spearman_over_patients(measured, score, folds).r)
        p.append(spearman_over_patients(predicted, score, folds, null_sd=fold_null_sd(known)).p[0])
        naive.append(spearman_over_patients(predicted, score, folds, null_sd=1).p[0])
        groups, ranks = np.digitize(score[:, 0], [-0.5, 0.5]), patient_ranks(predicted, folds)
        null_sd = fold_null_sd(kruskal_wallis(patient_ranks(measured, folds), groups).epsilon2)
        levels.append(kruskal_wallis(ranks, groups, null_sd=null_sd).p[0])
        naive_levels.append(kruskal_wallis(ranks, groups).p[0])
    shares = [np.mean(np.array(found) < 0.05) for found in (p, naive, levels, naive_levels)]
    assert least <= shares[0] <= most
    assert least / 2 <= shares[2] <= most
    if shared:
        assert min(shares[1], shares[3]) > most


def test_the_null_sd_lies_between_1_and_that_of_the_genes_themselves() -> None:
    assert fold_null_sd(np.array([0.0, np.nan])) == 1
    assert fold_null_sd(np.array([0.1, 0.44])) == pytest.approx(1.2)
    assert fold_null_sd(np.array([1.0 + 1e-9])) == pytest.approx(2**0.5)
    assert fold_null_sd(np.array([np.nan])) == pytest.approx(2**0.5)  # nothing is known


def test_partial_correlation_takes_the_covariate_out(rng: np.random.Generator) -> None:
    purity = rng.normal(size=(300, 1))
    x, y = purity + rng.normal(size=(300, 500)), purity + rng.normal(size=(300, 500))
    raw = spearman_over_patients(x, y)
    left, right = without_covariates(x, purity), without_covariates(y, purity)
    assert (left.spent, right.spent) == (1, 1)
    found = pearson_over_patients(left.values, right.values, spent=1)
    assert raw.r.mean() > 0.4
    assert abs(found.r.mean()) < 0.02
    assert np.mean(found.p < 0.05) == pytest.approx(0.05, abs=0.03)
    ranks = [stats.rankdata(values) for values in (x[:, 0], y[:, 0], purity[:, 0])]
    (xy, xz), yz = np.corrcoef(ranks)[0, 1:], np.corrcoef(ranks)[1, 2]
    assert found.r[0] == pytest.approx((xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))


def test_partial_correlation_with_unknown_and_with_full_covariates(
    rng: np.random.Generator,
) -> None:
    x, purity = rng.normal(size=(30, 2)), rng.normal(size=(30, 1))
    purity[:5] = np.nan
    found = without_covariates(np.column_stack([x, purity]), purity)
    assert np.isnan(found.values[:5]).all()
    assert np.isfinite(found.values[5:, :2]).all()
    assert np.isnan(found.values[:, 2]).all()  # nothing of purity is left once it is out
