"""Losses agree with numpy, also with missing targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tcgn_mil.training.losses import correlation_loss, expression_loss, masked_mse


def arrays(samples: int = 9, genes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(samples, genes, generator=generator, dtype=torch.float64)
    return predicted, torch.randn(samples, genes, generator=generator, dtype=torch.float64)


def test_correlation_is_numpys() -> None:
    predicted, target = arrays()
    expected = np.mean(
        [1 - np.corrcoef(predicted[:, gene], target[:, gene])[0, 1] for gene in range(4)]
    )
    assert float(correlation_loss(predicted, target)) == pytest.approx(expected, abs=1e-6)


def test_missing_targets_are_left_out() -> None:
    predicted, target = arrays()
    target[[0, 3], 1] = torch.nan
    known = [1, 2, 4, 5, 6, 7, 8]
    r = [np.corrcoef(predicted[:, gene], target[:, gene])[0, 1] for gene in (0, 2, 3)]
    r.append(np.corrcoef(predicted[known, 1], target[known, 1])[0, 1])
    assert float(correlation_loss(predicted, target)) == pytest.approx(1 - np.mean(r), abs=1e-6)
    squared = np.square(predicted.numpy() - target.numpy())
    assert float(masked_mse(predicted, target)) == pytest.approx(np.nanmean(squared))


def test_missing_targets_send_no_gradient() -> None:
    predicted, target = arrays()
    predicted.requires_grad_()
    target[:, 2] = torch.nan
    target[4, 0] = torch.nan
    for kind in ("mse", "correlation", "mix"):
        (gradient,) = torch.autograd.grad(expression_loss(predicted, target, kind), predicted)
        assert torch.isfinite(gradient).all()
        assert (gradient[:, 2] == 0).all()
        assert gradient[4, 0] == 0
        assert (gradient[:, 1] != 0).all()


def test_constant_genes_and_predictions_stay_finite() -> None:
    predicted, target = arrays()
    target[:, 0] = 1.0
    predicted[:, 1] = 2.0
    predicted.requires_grad_()
    loss = correlation_loss(predicted, target)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("samples", [1, 2])
def test_two_samples_have_no_correlation_to_learn(samples: int) -> None:
    predicted, target = arrays(samples)
    assert float(correlation_loss(predicted, target)) == 0


def test_nothing_known_is_no_loss() -> None:
    predicted, target = arrays()
    for kind in ("mse", "correlation", "mix"):
        assert float(expression_loss(predicted, torch.full_like(target, torch.nan), kind)) == 0


def test_the_mix_is_the_sum() -> None:
    predicted, target = arrays()
    parts = [float(expression_loss(predicted, target, kind)) for kind in ("mse", "correlation")]
    assert float(expression_loss(predicted, target, "mix")) == pytest.approx(sum(parts))
