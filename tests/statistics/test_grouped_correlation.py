"""Single precision within groups agrees with double precision, or says that it does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from tcgn_mil.statistics import grouped_correlation
from tcgn_mil.statistics.grouped_correlation import grouped_pearson, rows_by_group
from tcgn_mil.statistics.out_of_fold import fold_correlations


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("sizes", [(30, 20, 10), (700, 1100)])
def test_r_is_that_of_double_precision(
    sizes: tuple[int, ...], apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of groups lie apart or together; groups and genes fill several blocks and threads."""
    monkeypatch.setattr(grouped_correlation, "_BLOCK_GENES", 11)
    rng = np.random.default_rng(0)
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    if apart:
        group_of = rng.permutation(group_of)
    truth = rng.standard_normal((sum(sizes), 60)) * np.logspace(-3, 3, 60) + np.linspace(-2, 50, 60)
    predicted = truth * np.linspace(-1, 1, 60) / truth.std(axis=0) + rng.standard_normal(
        truth.shape
    )
    truth, predicted = truth.astype(np.float32), predicted.astype(np.float32)
    found = grouped_pearson(truth, predicted, rows_by_group(group_of))
    assert found.exact.mean() > 0.9
    for group in range(len(sizes)):
        rows = group_of == group
        pairs = zip(truth[rows].astype(float).T, predicted[rows].astype(float).T, strict=True)
        expected = np.array([pearsonr(*pair)[0] for pair in pairs])
        exact = found.exact[group]
        np.testing.assert_allclose(found.r[group, exact], expected[exact], atol=1e-5)


def test_what_single_precision_cannot_tell_is_said_and_taken_in_double() -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((40, 7)).astype(np.float32)
    predicted = (truth + rng.standard_normal((40, 7))).astype(np.float32)
    truth[:, 1] = 5.1  # constant
    truth[:, 2] = 4096 + 1e-3 * truth[:, 2]  # hardly more than rounding
    truth[:4, 3] = 1e6  # far from where most lie
    truth[7, 4] = np.nan
    truth[:, 5] *= 1e25  # whose square is not a float32
    found = grouped_pearson(truth, predicted, rows_by_group(np.zeros(40, dtype=np.int64)))
    assert found.exact[0].tolist() == [True, False, False, True, False, False, True]
    r, n = fold_correlations(truth, predicted, np.zeros(40, dtype=np.int64))
    assert n.tolist() == [[40, 40, 40, 40, 39, 40, 40]]
    assert np.isnan(r[0, 1])
    for gene in (0, 2, 3, 4, 5, 6):
        known = np.isfinite(truth[:, gene])
        left, right = truth[known, gene].astype(float), predicted[known, gene].astype(float)
        assert r[0, gene] == pytest.approx(pearsonr(left, right)[0], abs=1e-5)


def test_two_samples_have_no_r() -> None:
    values = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    r, n = fold_correlations(values, values, np.array([0, 0, 1, 1, 1]))
    assert np.isnan(r[0]).all()
    np.testing.assert_allclose(r[1], 1, atol=1e-6)
    assert n.tolist() == [[2] * 3, [3] * 3]
