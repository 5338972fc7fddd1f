"""The Kruskal-Wallis test against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tcgn_mil.statistics.kruskal_wallis import kruskal_wallis


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_kruskal_wallis_is_that_of_scipy(rng: np.random.Generator) -> None:
    scores = np.round(rng.normal(size=(60, 3)), 1)
    groups = rng.integers(-1, 3, 60)
    scores[:5, 2] = np.nan
    found = kruskal_wallis(scores, groups)
    for column in range(3):
        parts = [
            scores[(groups == group) & np.isfinite(scores[:, column]), column] for group in range(3)
        ]
        expected = stats.kruskal(*parts)
        assert found.h[column] == pytest.approx(expected.statistic)
        assert found.p[column] == pytest.approx(expected.pvalue)
    assert np.isnan(kruskal_wallis(scores, np.zeros(60, int)).p).all()
