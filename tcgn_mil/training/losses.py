"""Training losses on standardised targets; NaN targets are missing and masked."""

from __future__ import annotations

import torch
from torch import Tensor

from tcgn_mil.settings.training import LossName

_FLOOR = 1e-6  # keeps r and its gradient finite where prediction or target is constant
_LEAST_SAMPLES = 3  # two always correlate perfectly


def expression_loss(predicted: Tensor, target: Tensor, kind: LossName = "mse") -> Tensor:
    """Scalar loss of ``predicted`` against ``target``, both (B, G).

    ``mse``: mean squared error; ``correlation``: 1 - Pearson r over the batch, mean over genes; ``mix``: their sum.
    """
    if kind == "mse":
        return masked_mse(predicted, target)
    if kind == "correlation":
        return correlation_loss(predicted, target)
    return masked_mse(predicted, target) + correlation_loss(predicted, target)


def masked_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the targets that are known."""
    known = torch.isfinite(target)
    error = torch.where(known, predicted - torch.nan_to_num(target), 0.0)
    return error.square().sum() / known.sum().clamp(min=1)


def correlation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - Pearson r of each gene over the batch, averaged over genes known in at least three samples; 0 without any."""
    known = torch.isfinite(target).to(predicted.dtype)
    count = known.sum(dim=0)
    left, right = predicted * known, torch.nan_to_num(target) * known
    left = (left - left.sum(dim=0) / count.clamp(min=1)) * known
    right = (right - right.sum(dim=0) / count.clamp(min=1)) * known
    r = (left * right).sum(dim=0) / (
        left.square().sum(dim=0) * right.square().sum(dim=0) + _FLOOR
    ).sqrt()
    usable = (count >= _LEAST_SAMPLES).to(r.dtype)
    return ((1 - r) * usable).sum() / usable.sum().clamp(min=1)
