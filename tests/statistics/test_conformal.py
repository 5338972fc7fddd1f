"""Conformal intervals cover new patients as often as stated."""

from __future__ import annotations

import numpy as np
import pytest

from tcgn_mil.statistics.conformal import conformal_bounds


@pytest.mark.parametrize("stated", [0.8, 0.9])
def test_conformal_intervals_cover_what_they_state(stated: float) -> None:
    rng = np.random.default_rng(2)
    truth = rng.standard_t(4, (100, 300))
    bounds = conformal_bounds(
        truth, np.zeros_like(truth), np.repeat(np.arange(5), 20), stated_coverage=stated
    )
    assert bounds.coverage == pytest.approx(stated, abs=0.02)
    assert bounds.covered.mean() == pytest.approx(bounds.coverage)
    np.testing.assert_allclose(bounds.covered.mean(axis=0), bounds.coverage_by_gene)
    fresh = np.abs(rng.standard_t(4, (2000, 300))) <= bounds.half_width
    assert fresh.mean() == pytest.approx(stated, abs=0.02)


def test_too_few_patients_have_no_interval() -> None:
    bounds = conformal_bounds(
        np.zeros((6, 2)), np.ones((6, 2)), np.repeat(np.arange(3), 2), stated_coverage=0.9
    )
    assert np.isnan(bounds.half_width).all()
    assert np.isnan(bounds.coverage)
    assert np.isnan(
        conformal_bounds(np.zeros((30, 2)), np.ones((30, 2)), np.zeros(30, np.int64)).coverage
    )  # one fold
