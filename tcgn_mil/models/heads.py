"""Heads: the layers between the features of an encoder and the genes.

The last layer or the whole head can be trained or replaced while the rest of the encoder stays as
it is. :class:`SpotHead` and :class:`SpotFeatures` carry a head that was trained on spots into the
additive slide model.

Shapes: B bags or images, N tiles, D features, S width of the last layer's input (D, or the hidden
layer's), G genes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.layers.pooled_features import pooled_features


def head_of(model: nn.Module) -> nn.Module:
    """Return the classifier of a TCGN or timm model.

    Raises
    ------
    InputError
        If the model has no classifier with a linear layer.
    """
    classifier: Any = getattr(model, "get_classifier", lambda: None)
    head = classifier()
    if not isinstance(head, nn.Module) or not any(
        isinstance(part, nn.Linear) for part in head.modules()
    ):
        raise InputError(
            f"{type(model).__name__} has no linear head, so its head cannot be trained alone",
            fix="train the whole network (train=all)",
        )
    return head


def last_layer(model: nn.Module) -> nn.Linear:
    """Return the linear layer that predicts the genes.

    In a timm model this is the classifier, in TCGN the second layer of the head.
    """
    return [part for part in head_of(model).modules() if isinstance(part, nn.Linear)][-1]


def set_last_layer(
    model: nn.Module, weight: NDArray[np.floating], bias: NDArray[np.floating]
) -> None:
    """Set the weight (G, D) and the bias (G,) of the layer that predicts the genes."""
    layer = last_layer(model)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.asarray(weight, dtype=np.float32)))
        layer.bias.copy_(torch.from_numpy(np.asarray(bias, dtype=np.float32)))


class BeforeLastLayer(nn.Module):
    """Compute the input of a model's last layer: images (B, 3, H, W) to (B, S)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return what the last layer reads for these images."""
        # A hook works for every head, however many layers it has before the last one.
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
    """Train only the head of a model.

    The rest stays in evaluation mode, so that the statistics of its normalisations stay as well.
    The parameters are those of the model itself: training this module trains the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        model.requires_grad_(False)
        head_of(model).requires_grad_(True)

    def train(self, mode: bool = True) -> HeadOnly:
        """Set the mode of the head; the rest stays in evaluation mode."""
        self.training = mode
        self.model.eval()
        head_of(self.model).train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to expression (B, G)."""
        model: Any = self.model
        with torch.no_grad():
            last_map = model.forward_features(images)
        return model.forward_head(last_map)


class SpotHidden(NamedTuple):
    """Hidden layer of a head: ``weight`` (S, D) and ``bias`` (S,), followed by a GELU."""

    weight: Tensor
    bias: Tensor


class SpotHead(NamedTuple):
    """Weights of a head that was trained on spots, from features to genes.

    Attributes
    ----------
    weight
        (G, S) weight of the last layer.
    hidden
        The layer before the last one; None if the last layer reads the features (then S = D).
    """

    weight: Tensor
    hidden: SpotHidden | None = None

    def last_input(self, features: Tensor) -> Tensor:
        """Map features (..., D) to the input of the last layer (..., S)."""
        return _last_input(features, self.hidden)


class SpotFeatures(nn.Module):
    """Compute the centred input of a head's last layer; nothing here is trained.

    The mean over the training tiles is subtracted, so that an average tile gives zero.
    """

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.centre: Tensor
        self.weight: Tensor | None
        self.bias: Tensor | None
        self.register_buffer("centre", torch.zeros(hidden or in_features))
        self.register_buffer("weight", torch.zeros(hidden, in_features) if hidden else None)
        self.register_buffer("bias", torch.zeros(hidden) if hidden else None)

    def load_head(self, hidden: SpotHidden | None, centre: Tensor) -> None:
        """Copy the hidden layer of a trained head, and the mean (S,) to subtract."""
        with torch.no_grad():
            self.centre.copy_(centre)
            if hidden is not None:
                assert self.weight is not None
                assert self.bias is not None
                self.weight.copy_(hidden.weight)
                self.bias.copy_(hidden.bias)

    def pooled(self, features: Tensor, weights: Tensor) -> Tensor:
        """Sum the values of features (B, N, D) under weights (B, N) of the tiles, (B, S).

        A feature that is missing (NaN) adds nothing.
        """
        if self.weight is None and not features.requires_grad:
            return pooled_features(features, self.centre, weights)
        values = without_missing(self(features))
        with torch.autocast(values.device.type, enabled=False):  # a long sum needs float32
            return torch.bmm(weights.float()[:, None], values.float())[:, 0]

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, N, D) to (B, N, S)."""
        hidden = (
            None if self.weight is None or self.bias is None else SpotHidden(self.weight, self.bias)
        )
        return _last_input(features.to(self.centre.dtype), hidden) - self.centre


def _last_input(features: Tensor, hidden: SpotHidden | None) -> Tensor:
    if hidden is None:
        return features
    return nn.functional.gelu(nn.functional.linear(features, *hidden))


def without_missing(centred: Tensor) -> Tensor:
    """Set NaN to 0 in a tensor that was just computed and that nothing else reads.

    Infinite values stay, because they are errors.
    """
    return centred.nan_to_num_(nan=0.0, posinf=torch.inf, neginf=-torch.inf)
