"""What stands between features and genes, alone: trained on a frozen encoder, or its last layer given.

The head of an encoder that was trained on spots, as the additive slide model starts from it.

Shapes: B bags, N tiles, D features, S width of the last layer's input (D, or the hidden layer's), G genes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.errors import InputError


def head_of(model: nn.Module) -> nn.Module:
    """The classifier of a TCGN or timm model.

    Raises
    ------
    InputError
        If it has no linear layer.
    """
    classifier: Any = getattr(model, "get_classifier", lambda: None)
    head = classifier()
    if not isinstance(head, nn.Module) or not any(
        isinstance(part, nn.Linear) for part in head.modules()
    ):
        raise InputError(
            f"{type(model).__name__} has no linear head", fix="train it end to end (train=all)"
        )
    return head


def last_layer(model: nn.Module) -> nn.Linear:
    """The linear layer that gives the genes: timm's classifier, the second layer of TCGN's head."""
    return [part for part in head_of(model).modules() if isinstance(part, nn.Linear)][-1]


def set_last_layer(
    model: nn.Module, weight: NDArray[np.floating], bias: NDArray[np.floating]
) -> None:
    """Make the last layer this linear map: `weight` (G, D), `bias` (G,)."""
    layer = last_layer(model)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.asarray(weight, dtype=np.float32)))
        layer.bias.copy_(torch.from_numpy(np.asarray(bias, dtype=np.float32)))


class BeforeLastLayer(nn.Module):
    """A model up to the input of its last layer: images (B, 3, H, W) -> (B, D)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """The input of the last layer."""
        inputs: list[Tensor] = []
        hook = last_layer(self.model).register_forward_pre_hook(
            lambda _, given: inputs.append(given[0])
        )
        try:
            self.model(images)
        finally:
            hook.remove()
        return inputs[0]


class HeadOnly(nn.Module):
    """A model of which only the head trains; the rest stays in eval mode, so its normalisation statistics stay too.

    It shares the model's own parameters: what is trained here is trained there.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)
        head_of(model).requires_grad_(True)

    def train(self, mode: bool = True) -> HeadOnly:
        """Only the head changes its mode."""
        self.training = mode
        self.model.eval()
        head_of(self.model).train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, G)."""
        model: Any = self.model
        with torch.no_grad():
            last_map = model.forward_features(images)
        return model.forward_head(last_map)


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
