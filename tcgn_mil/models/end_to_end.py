"""Tile encoder and slide model as one network, so that a bag's loss reaches the encoder.

Tiles are encoded in chunks. Where all of the encoder trains, each is by activation checkpointing: the backward pass
encodes a chunk again, so memory holds one chunk's activations, however many tiles a step has. Where its last stage
trains, what lies below keeps no activations anyhow, and would be computed twice for nothing. The encoder stays in
evaluation mode: the statistics of its batch normalisations, and its dropout, are those that it was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.layers.checkpointing import checkpointed
from tcgn_mil.models.encoders import encoder_features
from tcgn_mil.models.network_input import EncoderInput, to_network_input
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import EncoderTrain

_TILES_A_CHUNK = 32


class BagNetwork(nn.Module):
    """Pixels of a bag's tiles to its expression.

    Parameters
    ----------
    encoder
        With features that the regressor reads.
    regressor
        As it was trained on the encoder's stored features.
    input_spec
        What the encoder's input needs.
    train_encoder
        ``last``: the encoder's last stage and what follows it; ``all``: all of it; ``none``: the regressor alone.

    Raises
    ------
    InputError
        If the encoder has no ``group_matcher``, which names its layers.
    """

    def __init__(
        self,
        encoder: nn.Module,
        regressor: SlideRegressor,
        input_spec: EncoderInput,
        train_encoder: EncoderTrain,
    ) -> None:
        super().__init__()
        self.encoder, self.regressor, self.input_spec = encoder, regressor, input_spec
        self._layers = layers_of(encoder)
        self._checkpoints = train_encoder == "all"
        trained = trained_parameters(encoder, train_encoder)
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(name in trained)

    def train(self, mode: bool = True) -> BagNetwork:
        """The regressor's mode; the encoder's is always that of evaluation."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """(B, K, P, P, 3) uint8 and (B, K) bool -> (B, G) standardised expression."""
        found = self.features(pixels[mask])
        features = found.new_zeros((*mask.shape, found.shape[1]))
        features[mask] = found
        return self.regressor(features, mask).expression

    def features(self, pixels: Tensor) -> Tensor:
        """(N, P, P, 3) uint8 -> (N, D) float32."""
        run = checkpointed if self._checkpoints and torch.is_grad_enabled() else _call
        encode = _Encode(self.encoder, self.input_spec)
        return torch.cat([run(encode, chunk).float() for chunk in pixels.split(_TILES_A_CHUNK)])

    def no_weight_decay(self) -> set[str]:
        """What the encoder exempts."""
        exempt = getattr(self.encoder, "no_weight_decay", None)
        return {f"encoder.{name}" for name in exempt()} if callable(exempt) else set()

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Name -> layer: those of the encoder in order of depth, then the regressor, for layer-wise rates (timm)."""
        del coarse
        top = max(self._layers.values()) + 1
        return lambda name: self._layers.get(name.removeprefix("encoder."), top)


class _Encode(nn.Module):
    """Pixels to features, as a module, which is what is checkpointed."""

    def __init__(self, encoder: nn.Module, input_spec: EncoderInput) -> None:
        super().__init__()
        self.encoder, self.input_spec = encoder, input_spec

    def forward(self, pixels: Tensor) -> Tensor:
        images = to_network_input(pixels, self.input_spec)
        return encoder_features(self.encoder, images)


def _call(module: nn.Module, *inputs: Any) -> Tensor:
    return cast(Tensor, module(*inputs))


def layers_of(encoder: nn.Module, *, coarse: bool = False) -> dict[str, int]:
    """Parameter -> its layer (with `coarse` its stage) in order of depth.

    Raises
    ------
    InputError
        If the encoder has no ``group_matcher``.
    """
    matcher = getattr(encoder, "group_matcher", None)
    if not callable(matcher):
        raise InputError(
            f"{type(encoder).__name__} has no group_matcher, which names its layers in order of depth",
            fix="use an encoder of timm or TCGN, or encoder_train=none",
        )
    return dict(group_parameters(encoder, matcher(coarse=coarse), reverse=True))


def trained_parameters(encoder: nn.Module, which: EncoderTrain) -> set[str]:
    """Names of an encoder's parameters that train; a head, which a bag does not read, never does.

    The last stage is the deepest with more than one weight matrix: a final norm or projection alone is none, but
    trains with it.
    """
    head = {id(parameter) for parameter in encoder.get_classifier().parameters()}  # type: ignore[operator]
    trunk = {
        name: parameter.ndim
        for name, parameter in encoder.named_parameters()
        if id(parameter) not in head
    }
    if which != "last":
        return set(trunk) if which == "all" else set()
    layers = {
        name: layer for name, layer in layers_of(encoder, coarse=True).items() if name in trunk
    }
    weights = [layers[name] for name, ndim in trunk.items() if ndim > 1]
    last = max(layer for layer in weights if weights.count(layer) > 1)
    return {name for name, layer in layers.items() if layer >= last}
