"""Bootstrap intervals over patients and over blocks of spots."""

from __future__ import annotations

import numpy as np

from tcgn_mil.statistics.bootstrap import patient_bootstrap
from tcgn_mil.statistics.out_of_fold import combined_r

M, G = 60, 7
FOLDS = np.repeat(np.arange(5), 12)


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


def test_rows_of_a_person_are_resampled_together() -> None:
    """The six rows of a person differ by noise only, so r is as uncertain as with one row each."""
    rng = np.random.default_rng(0)
    folds, people = np.repeat(np.arange(3), 30), np.repeat(np.arange(15), 6)
    truth, predicted = (
        rng.standard_normal((15, 40))[people] + 0.1 * rng.standard_normal((90, 40))
        for _ in range(2)
    )
    alone = patient_bootstrap(truth, predicted, folds, replicates=200)
    together = patient_bootstrap(truth, predicted, folds, donor_of=people, replicates=200)
    assert np.median(together.std(axis=0)) > 1.7 * np.median(alone.std(axis=0))
