"""Kernel ridge regression against scikit-learn and against refits that leave a sample out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import kernel_ridge, linear_model

from tcgn_mil.regression import kernel_ridge as module
from tcgn_mil.regression.kernel_ridge import CentredKernel, KernelRidge, principal_components
from tcgn_mil.statistics.gene_metrics import pearson

N, D = 40, 6


@pytest.fixture
def features() -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((N, D))
    return (values - values.mean(axis=0)) / values.std(axis=0)


@pytest.fixture
def targets(features: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    return 3 + features @ rng.standard_normal((D, 5)) + 2 * rng.standard_normal((N, 5))


def one_penalty(monkeypatch: pytest.MonkeyPatch, penalty: float) -> None:
    monkeypatch.setattr(module, "PENALTIES", np.array([penalty]))


def test_the_linear_kernel_is_ridge_regression(
    features: np.ndarray, targets: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_penalty(monkeypatch, 0.7)
    kernel = CentredKernel(features, "linear")
    weights = KernelRidge(kernel.matrix).fit(targets)
    new = np.random.default_rng(2).standard_normal((9, D))
    reference = linear_model.Ridge(alpha=0.7 * D).fit(features, targets)
    np.testing.assert_allclose(kernel(new) @ weights.dual + weights.bias, reference.predict(new))


def test_the_gaussian_kernel_is_kernel_ridge_with_a_free_mean(
    features: np.ndarray, targets: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_penalty(monkeypatch, 0.7)
    kernel = CentredKernel(features, "gaussian")
    weights = KernelRidge(kernel.matrix).fit(targets)
    plain = np.exp(-0.1 * np.square(features[:, None] - features).sum(axis=2) / D) / 0.1
    centring = np.eye(N) - 1 / N
    np.testing.assert_allclose(kernel.matrix, centring @ plain @ centring, atol=1e-10)
    np.testing.assert_allclose(kernel(features), kernel.matrix, atol=1e-10)
    reference = kernel_ridge.KernelRidge(alpha=0.7, kernel="precomputed").fit(
        kernel.matrix, targets - targets.mean(axis=0)
    )
    np.testing.assert_allclose(weights.dual, reference.dual_coef_, atol=1e-8)


def test_the_error_of_leaving_one_out_is_that_of_refits(
    features: np.ndarray, targets: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_penalty(monkeypatch, 0.7)
    ridge = KernelRidge(CentredKernel(features, "linear").matrix)
    found = ridge._errors(ridge._vectors.T @ (targets - targets.mean(axis=0)))[0]
    errors = []
    for row in range(N):
        others = np.arange(N) != row
        # The same penalty and scale of features as with the row, and a mean without it.
        model = linear_model.Ridge(alpha=0.7 * D).fit(features[others], targets[others])
        errors.append(np.square(model.predict(features[[row]]) - targets[[row]])[0])
    np.testing.assert_allclose(found, np.mean(errors, axis=0))


def test_the_penalty_follows_the_noise(features: np.ndarray) -> None:
    ridge = KernelRidge(CentredKernel(features, "linear").matrix)
    rng = np.random.default_rng(3)
    signal = features @ rng.standard_normal((D, 30))
    noise = rng.standard_normal((N, 30))
    assert np.std(CentredKernel(features, "linear").matrix @ ridge.fit(noise).dual) < 0.3
    fitted = CentredKernel(features, "linear").matrix @ ridge.fit(signal).dual
    np.testing.assert_allclose(fitted, signal - signal.mean(axis=0), atol=0.1)


def test_components_with_penalties_of_their_own_beat_one_penalty() -> None:
    rng = np.random.default_rng(4)
    features = rng.standard_normal((300, 60))
    # Genes follow a programme that the features show and a larger one that they do not.
    seen, unseen = features[:, :5].sum(axis=1), 3 * rng.standard_normal(300)
    programmes = np.stack([seen, unseen], axis=1)
    genes = programmes @ rng.standard_normal((2, 100)) + rng.standard_normal((300, 100))
    train, test = np.arange(150), np.arange(150, 300)
    kernel = CentredKernel(features[train], "linear")
    ridge = KernelRidge(kernel.matrix)
    cross = kernel(features[test])
    r = {}
    for name, weights in (
        ("single", ridge.fit(genes[train])),
        ("components", ridge.fit_components(genes[train], 10)),
    ):
        predicted = cross @ weights.dual @ weights.loadings + weights.bias
        r[name] = np.median(pearson(genes[test], predicted))
    assert r["components"] > r["single"] + 0.02


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    values = np.random.default_rng(5).standard_normal((12, 30))
    values -= values.mean(axis=0)
    scores, loadings = principal_components(values, 4)
    left, size, right = np.linalg.svd(values, full_matrices=False)
    np.testing.assert_allclose(scores @ loadings, left[:, :4] * size[:4] @ right[:4], atol=1e-10)
    np.testing.assert_allclose(loadings @ loadings.T, np.eye(4), atol=1e-10)


def test_no_more_components_than_the_rank() -> None:
    values = np.outer(np.arange(10.0) - 4.5, np.ones(7))
    scores, loadings = principal_components(values, 5)
    assert scores.shape == (10, 1)
    assert loadings.shape == (1, 7)
