"""P-values of refitted nulls, false discovery rates and Steiger's test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from tcgn_mil.statistics.p_values import (
    benjamini_hochberg,
    null_p_by_others,
    null_p_values,
    steiger_p,
)


def test_false_discovery_passes_over_unknown_p() -> None:
    np.testing.assert_allclose(
        benjamini_hochberg(np.array([0.01, np.nan, 0.04])), [0.02, np.nan, 0.04]
    )
    assert np.isnan(benjamini_hochberg(np.array([np.nan]))).all()


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


def test_each_refit_is_judged_by_the_others() -> None:
    null_z = np.round(np.random.default_rng(0).standard_normal((9, 50)), 1)  # with ties
    null_z[2, 3:9] = np.nan
    for refit, found in enumerate(null_p_by_others(null_z)):
        np.testing.assert_allclose(
            found, null_p_values(null_z[refit], np.delete(null_z, refit, axis=0))
        )
