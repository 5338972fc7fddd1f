"""Test the simulated cohorts and the methods that the jackknife is compared with."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from tcgn_mil.experiments.benchmarks import interval_coverage, interval_data
from tcgn_mil.statistics.jackknife import jackknife
from tcgn_mil.statistics.out_of_fold import combined_r

FOLDS = interval_coverage.folds_of("5x12")


@pytest.mark.parametrize("kind", interval_data.KINDS)
def test_independent_genes_have_the_stated_r(kind: str) -> None:
    pair = interval_data.independent_genes(kind, 0.6, (400_000, 1), np.random.default_rng(0))
    assert np.corrcoef(pair.truth[:, 0], pair.predicted[:, 0])[0, 1] == pytest.approx(
        pair.r, abs=0.02
    )


def test_correlated_genes_have_the_stated_medians() -> None:
    design = interval_data.CorrelatedGenes(np.tanh(np.linspace(0.05, 0.75, 41)))
    cohort = design.draw(50_000, np.random.default_rng(0), heavy_tails=False)
    thirds = np.arange(50_000) % 3
    for predicted, median in ((cohort.better, design.better), (cohort.worse, design.worse)):
        r = combined_r(cohort.truth, predicted, thirds).r
        assert np.median(r) == pytest.approx(median, abs=0.01)
    assert np.corrcoef(cohort.truth.T)[-1, :-1].std() > 0.05  # genes share factors


def test_equal_weights_give_the_combined_r() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.standard_normal((2, 60, 5))
    z = interval_data.reweighted_z(truth, predicted, FOLDS, np.ones((1, 60)))
    np.testing.assert_allclose(np.tanh(z[0]), combined_r(truth, predicted, FOLDS).r)
    weights = interval_data.resampling_weights(FOLDS, 7, rng, dirichlet=False)
    assert all(np.all(weights[:, fold == FOLDS].sum(axis=1) == 12) for fold in range(5))


def test_the_bias_corrected_interval_is_scipys() -> None:
    """In one group; the accelerations are those of the jackknife in both."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((80, 1))
    predicted = truth + rng.standard_normal((80, 1))
    one = np.zeros(80, dtype=int)
    weights = interval_data.resampling_weights(one, 20_000, rng, dirichlet=False)
    values = jackknife(truth, predicted, one, min_folds=1)
    z = interval_data.reweighted_z(truth, predicted, one, weights)
    found = interval_data.bias_corrected(z, values)
    expected = bootstrap(
        (truth[:, 0], predicted[:, 0]),
        lambda x, y: np.arctanh(np.corrcoef(x, y)[0, 1]),
        paired=True,
        vectorized=False,
        n_resamples=5_000,
        method="BCa",
        rng=rng,
    ).confidence_interval
    assert (found.low[0], found.high[0]) == pytest.approx(tuple(expected), abs=0.03)


def test_the_tables_show_the_fault_of_resampling_and_its_repair() -> None:
    genes = pd.DataFrame(interval_coverage.gene_rows("4x6", 200, 100, 0))
    worst = genes.groupby("method")["coverage"].min()
    assert worst["jackknife"] > 0.9
    assert worst["Dirichlet weights"] < 0.8
    medians = pd.DataFrame(interval_coverage.median_rows("4x6", 60, 20, 100, 0))
    width = medians.groupby("method")["width"].mean()
    assert width["jackknife"] < 0.7 * width["resampled patients"]
    outside = medians.groupby("method")["estimate_outside"].max()
    assert outside["jackknife"] == 0
    assert outside["resampled patients"] > 0
    text = interval_coverage.markdown(interval_coverage.gene_table(genes))
    assert text.splitlines()[0].startswith("| size | method | normal | heavy tails | skewed |")
    assert len(text.splitlines()) == 2 + 6
    assert len(interval_coverage.median_table(medians)) == len(medians) == 24  # one size


def test_models_of_the_other_folds_are_judged_by_their_own_r() -> None:
    rows = pd.DataFrame(interval_coverage.fitted_rows("5x25", 50, 10, 0))
    assert list(interval_coverage.fitted_table(rows).columns) == ["share", "5x25"]
    rows = rows.set_index("share")
    assert rows["true_median_r"].is_monotonic_increasing
    assert rows.loc[0.0, "true_median_r"] == 0
    assert 0.75 < rows.loc[0.0, "coverage_of_genes"] < 0.93  # folds are not independent
