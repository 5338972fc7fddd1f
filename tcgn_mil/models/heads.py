"""What stands between features and genes, alone: trained on a frozen encoder, or its last layer given."""

from __future__ import annotations

from typing import Any

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
