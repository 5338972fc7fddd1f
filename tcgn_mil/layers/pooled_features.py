"""Weighted sums of stored features over the tiles of a bag, without a copy of the features.

The first head of the additive slide model reads the features themselves, x - centre. Its part of a
bag's expression is a linear map of sum_n a_n (x_n - centre), so that only this sum is needed and
not the centred features of all tiles beside the learned values. The sum is taken block by block
from the features as they are stored. Its gradient is that of the weights, x_n - centre times the
gradient of the sum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tcgn_mil.layers.normalised_linear import centred_blocks


def pooled_features(features: Tensor, centre: Tensor, weights: Tensor) -> Tensor:
    """Sum centred features over tiles.

    Parameters
    ----------
    features
        (B, N, D) of any floating dtype; no gradient flows to them. A missing feature (NaN) adds
        nothing.
    centre
        (D,) to subtract.
    weights
        (B, N) float32 weights of the tiles.

    Returns
    -------
    (B, D) float32.

    Examples
    --------
    >>> import torch
    >>> features, weights = torch.randn(2, 5, 3), torch.rand(2, 5)
    >>> pooled = pooled_features(features, torch.zeros(3), weights)
    >>> bool((pooled - (features * weights[..., None]).sum(dim=1)).abs().max() < 1e-6)
    True
    """
    with torch.autocast(features.device.type, enabled=False):
        return _PooledFeatures.apply(features, centre, weights.float()[:, None])[:, 0]


class _PooledFeatures(torch.autograd.Function):
    """Map features (B, N, D) and weights (B, H, N) to sums (B, H, D)."""

    @staticmethod
    def forward(features: Tensor, centre: Tensor, weights: Tensor) -> Tensor:
        sums = weights.new_zeros((*weights.shape[:2], features.shape[2]))
        for bag, bag_weights, total in zip(features, weights, sums, strict=True):
            for rows, block in centred_blocks(bag, centre):
                total.addmm_(bag_weights[:, rows], block)
        return sums

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        features, centre, _ = inputs
        ctx.save_for_backward(features, centre)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        features, centre = ctx.saved_tensors
        of_weights = gradient.new_empty((*gradient.shape[:2], features.shape[1]))
        with torch.autocast(gradient.device.type, enabled=False):
            for bag, of_sums, of_bag in zip(features, gradient, of_weights, strict=True):
                for rows, block in centred_blocks(bag, centre):
                    of_bag[:, rows] = of_sums @ block.T
        return None, None, of_weights

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        """Map R sets of weights over the same features at once."""
        features, centre, weights = inputs
        assert in_dims[:2] == (None, None)
        stacked = weights.movedim(in_dims[2], 1)  # (B, R, H, N)
        sums = _PooledFeatures.apply(features, centre, stacked.flatten(1, 2))
        return sums.unflatten(1, stacked.shape[1:3]), 1
