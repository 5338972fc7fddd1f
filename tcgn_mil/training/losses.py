"""Losses on standardised targets. A target that is NaN is missing and does not count."""

from __future__ import annotations

import torch
from torch import Tensor

from tcgn_mil.settings.training import LossName
from tcgn_mil.statistics.gene_metrics import MIN_SAMPLES

# Keeps r and its gradient finite where a prediction or a target is constant over the batch.
_EPSILON = 1e-6


def expression_loss(predicted: Tensor, target: Tensor, kind: LossName = "mse") -> Tensor:
    """Compute the loss of predictions.

    Parameters
    ----------
    predicted, target
        (B, G); NaN in `target` where a value is missing.
    kind
        ``mse`` for the mean squared error, ``correlation`` for 1 - Pearson r over the batch,
        averaged over genes, ``mix`` for their sum.

    Returns
    -------
    Scalar.

    Examples
    --------
    >>> import torch
    >>> target = torch.tensor([[0.0], [1.0], [float("nan")]])
    >>> expression_loss(torch.tensor([[0.5], [1.0], [7.0]]), target)
    tensor(0.1250)
    """
    if kind == "mse":
        return masked_mse(predicted, target)
    if kind == "correlation":
        return correlation_loss(predicted, target)
    return masked_mse(predicted, target) + correlation_loss(predicted, target)


def masked_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute the mean squared error over the targets that are known."""
    known = torch.isfinite(target)
    # nan_to_num before the subtraction: where() alone would pass NaN to the gradient.
    error = torch.where(known, predicted - torch.nan_to_num(target), 0.0)
    return error.square().sum() / known.sum().clamp(min=1)


def correlation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute 1 - Pearson r of each gene over the batch, averaged over genes.

    A gene that is known in fewer than three samples does not count; if no gene counts, the loss is
    0.
    """
    known = torch.isfinite(target).to(predicted.dtype)  # (B, G)
    count = known.sum(dim=0)  # (G,)
    left, right = predicted * known, torch.nan_to_num(target) * known
    left = (left - left.sum(dim=0) / count.clamp(min=1)) * known
    right = (right - right.sum(dim=0) / count.clamp(min=1)) * known
    r = (left * right).sum(dim=0) / (
        left.square().sum(dim=0) * right.square().sum(dim=0) + _EPSILON
    ).sqrt()
    usable = (count >= MIN_SAMPLES).to(r.dtype)
    return ((1 - r) * usable).sum() / usable.sum().clamp(min=1)
