"""Spot normalisation, panel choice and rank normalisation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.targets.bulk import expressed_genes, standardise_within
from tcgn_mil.targets.spots import choose_spot_panel, detection, spot_expression, total_counts

COUNTS = np.array([[1, 3, 0, 6], [0, 0, 5, 5], [2, 0, 0, 0]])


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix])
def test_library_normalisation_uses_all_genes(make) -> None:
    found = spot_expression(make(COUNTS), np.array([1, 3]))
    np.testing.assert_allclose(found, np.log1p([[3000, 6000], [0, 5000], [0, 0]]), rtol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(total_counts(make(COUNTS)), [10, 10, 2])
    np.testing.assert_allclose(detection(make(COUNTS), np.array([0, 1])), [2 / 3, 1 / 3])


def test_published_normalisation_uses_the_panel() -> None:
    found = spot_expression(COUNTS, np.array([1, 3]), normalisation="published")
    np.testing.assert_allclose(found[0], np.log1p([10000 / 3, 20000 / 3]), rtol=1e-6)
    assert np.isnan(found[2]).all()  # no panel count in this spot


def test_panel_holds_shared_frequent_variable_genes() -> None:
    rng = np.random.default_rng(0)
    first = np.column_stack(
        [rng.poisson(5, 50), np.zeros(50), rng.poisson(50, 50), rng.poisson(5, 50)]
    )
    second = np.column_stack([rng.poisson(50, 40), rng.poisson(5, 40), np.zeros(40)])
    sections = [(["A", "RARE", "H", "ONLY1"], first), (["H", "A", "RARE"], second)]
    assert choose_spot_panel(sections, min_detection=0.1, max_genes=10).genes == ("A", "H")
    assert choose_spot_panel(sections, min_detection=0.1, max_genes=1).genes == (
        "A",
    )  # H varies less on a log scale
    with pytest.raises(InputError, match="no gene is detected"):
        choose_spot_panel(
            [(["Z"], np.zeros((5, 1))), (["Z"], np.zeros((5, 1)))], min_detection=0.1, max_genes=1
        )


def test_genes_at_their_floor_or_constant_are_left_out() -> None:
    values = np.array([[0, 1, 0], [0, 2, 0], [0, 3, 4], [0, 1.5, 0.0]])
    assert expressed_genes(values, min_fraction=0.5).tolist() == [1]
    assert expressed_genes(values, min_fraction=0.25).tolist() == [1, 2]
    assert expressed_genes(values - 3, min_fraction=0.5, floor=None).tolist() == [
        1,
        2,
    ]  # z-scores have no floor


def test_cohorts_are_brought_to_one_mean_and_spread_by_their_training_patients() -> None:
    rng = np.random.default_rng(0)
    cohort_of = np.repeat([0, 1, 2], [30, 20, 10])
    values = (
        rng.standard_normal((60, 4)) * np.array([1, 3, 1])[cohort_of, None]
        + np.array([0, 5, 9])[cohort_of, None]
    )
    values[3, 1] = np.nan
    values[cohort_of == 1, 2] = 7  # constant in a cohort
    train = np.flatnonzero((np.arange(60) % 2 == 0) & (cohort_of < 2))
    found = standardise_within(values, train, cohort_of)
    parts = [found[train[cohort_of[train] == cohort]] for cohort in (0, 1)]
    for column in (0, 1, 3):
        means, stds = (
            [reduce(part[:, column]) for part in parts] for reduce in (np.nanmean, np.nanstd)
        )
        np.testing.assert_allclose(means, np.nanmean(values[train, column]), rtol=1e-5)
        assert stds[0] == pytest.approx(stds[1], rel=1e-5)
    assert np.ptp(parts[1][:, 2]) == 0
    np.testing.assert_allclose(
        found[50:], values[50:], rtol=1e-6
    )  # a cohort without training patients
    assert np.isnan(found).sum() == 1
    changed = values.copy()
    changed[1::2] *= 100  # patients that do not train
    np.testing.assert_array_equal(
        standardise_within(changed, train, cohort_of)[train], found[train]
    )


def test_one_cohort_is_left_as_it_is() -> None:
    values = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
    found = standardise_within(values, np.arange(8), np.zeros(12, dtype=np.int64))
    np.testing.assert_allclose(found, values, atol=1e-6)
