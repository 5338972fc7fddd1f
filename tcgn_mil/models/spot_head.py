"""The head of an encoder that was trained on spots, as the additive slide model starts from it.

Shapes: B bags, N tiles, D features, S width of the last layer's input (D, or the hidden layer's), G genes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class SpotHidden(NamedTuple):
    """Hidden layer of a head: ``weight`` (S, D), ``bias`` (S,), then a GELU."""

    weight: Tensor
    bias: Tensor


class SpotHead(NamedTuple):
    """A head trained on spots, from features to genes.

    Attributes
    ----------
    weight
        (G, S) of its last layer.
    hidden
        The layer before, None where the last layer reads features (S = D).
    """

    weight: Tensor
    hidden: SpotHidden | None = None

    def last_input(self, features: Tensor) -> Tensor:
        """(..., D) -> (..., S), what the last layer reads."""
        return (
            features
            if self.hidden is None
            else nn.functional.gelu(nn.functional.linear(features, *self.hidden))
        )


class SpotFeatures(nn.Module):
    """What the last layer of a head trained on spots reads, less its mean over training tiles; it is not trained."""

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.centre: Tensor
        self.weight: Tensor | None
        self.bias: Tensor | None
        self.register_buffer("centre", torch.zeros(hidden or in_features))
        self.register_buffer("weight", torch.zeros(hidden, in_features) if hidden else None)
        self.register_buffer("bias", torch.zeros(hidden) if hidden else None)

    def forward(self, features: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, S)."""
        hidden = (
            None if self.weight is None or self.bias is None else SpotHidden(self.weight, self.bias)
        )
        return SpotHead(self.centre, hidden).last_input(features) - self.centre
