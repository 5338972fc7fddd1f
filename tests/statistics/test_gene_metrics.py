"""Metrics against scipy, and the properties the protocol asks for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tcgn_mil.statistics.gene_metrics import gene_metrics, pearson, spearman


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40, 6))
    return truth, (0.5 * truth + rng.normal(size=truth.shape)).round(1)  # rounding makes ties


def test_correlations_agree_with_scipy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pair
    for gene in range(truth.shape[1]):
        assert pearson(truth, predicted)[gene] == pytest.approx(
            stats.pearsonr(truth[:, gene], predicted[:, gene])[0]
        )
        assert spearman(truth, predicted)[gene] == pytest.approx(
            stats.spearmanr(truth[:, gene], predicted[:, gene])[0]
        )


def test_errors_agree_with_their_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pair
    found = gene_metrics(truth, predicted)
    np.testing.assert_allclose(found.rmse, np.sqrt(((truth - predicted) ** 2).mean(0)))
    np.testing.assert_allclose(
        found.r2, 1 - ((truth - predicted) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
    )
    assert (found.n == 40).all()


@pytest.mark.parametrize("constant", [0.0, 3.3, 1e6])
def test_constant_genes_are_na_not_zero(
    pair: tuple[np.ndarray, np.ndarray], constant: float
) -> None:
    truth, predicted = (values.astype(np.float32) for values in pair)
    truth[:, 1] = constant
    predicted[:, 2] = constant
    r = pearson(truth, predicted)
    assert np.isnan(r[[1, 2]]).all()
    assert np.isfinite(r[[0, 3, 4, 5]]).all()
    assert np.isnan(gene_metrics(truth, predicted).r2[1])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="must both be"):
        pearson(np.zeros((3, 2)), np.zeros((2, 3)))
