"""Tile encoder and slide model as one network, so that the loss of a bag reaches the encoder.

The encoder reads the tiles in chunks. If all of it trains, each chunk uses activation
checkpointing: the backward pass encodes the chunk again, so that memory holds the activations of
one chunk, however many tiles a step has. If only its last stage trains, the stages below keep no
activations anyway, and checkpointing would only compute them twice.

The encoder stays in evaluation mode. Its batch normalisations keep the statistics that it was
trained with, and its dropout is off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.layers.checkpointing import call, checkpointed
from tcgn_mil.models.encoders import encoder_features
from tcgn_mil.models.lora import ADAPTER
from tcgn_mil.models.network_input import EncoderInput, to_network_input
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import EncoderTrain

_TILES_PER_CHUNK = 32


class BagNetwork(nn.Module):
    """Predict the expression of a bag from the pixels of its tiles.

    Parameters
    ----------
    encoder
        Encoder whose features the regressor reads.
    regressor
        Slide model, trained on stored features of the same encoder.
    input_spec
        Size and normalisation of the images that the encoder reads.
    train_encoder
        Part of the encoder that is trained: ``none``, ``last`` (its last stage and what follows it)
        ``lora`` (adapters that were added to it before), or ``all``. The regressor is always
        trained.

    Raises
    ------
    InputError
        If the encoder has no ``group_matcher``, which names its layers in order of depth.
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
        self._checkpoints = train_encoder in ("all", "lora")
        trained = trained_parameters(encoder, train_encoder)
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(name in trained)

    def train(self, mode: bool = True) -> BagNetwork:
        """Set the mode of the regressor; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """Predict standardised expression.

        Parameters
        ----------
        pixels
            (B, K, P, P, 3) uint8, K tiles for each bag.
        mask
            (B, K) bool, True at tiles and False at padding.

        Returns
        -------
        (B, G).
        """
        encoded = self.features(pixels[mask])  # (N, D), without padding
        features = encoded.new_zeros((*mask.shape, encoded.shape[1]))  # (B, K, D)
        features[mask] = encoded
        return self.regressor(features, mask).expression

    def features(self, pixels: Tensor) -> Tensor:
        """Encode tiles (N, P, P, 3) uint8 to features (N, D) float32."""
        apply = checkpointed if self._checkpoints and torch.is_grad_enabled() else call
        encode = _Encode(self.encoder, self.input_spec)
        return torch.cat([apply(encode, chunk).float() for chunk in pixels.split(_TILES_PER_CHUNK)])

    def no_weight_decay(self) -> set[str]:
        """Return the names of the encoder's parameters to which weight decay does not apply."""
        exempt = getattr(self.encoder, "no_weight_decay", None)
        return {f"encoder.{name}" for name in exempt()} if callable(exempt) else set()

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Return a function from a parameter's name to its layer, for layer-wise learning rates.

        The layers are those of the encoder in order of depth, and then the regressor (timm's
        convention).
        """
        del coarse
        top = max(self._layers.values()) + 1
        return lambda name: self._layers.get(name.removeprefix("encoder."), top)


class _Encode(nn.Module):
    """Encode pixels; a module, since modules are what can be checkpointed."""

    def __init__(self, encoder: nn.Module, input_spec: EncoderInput) -> None:
        super().__init__()
        self.encoder, self.input_spec = encoder, input_spec

    def forward(self, pixels: Tensor) -> Tensor:
        return encoder_features(self.encoder, to_network_input(pixels, self.input_spec))


def layers_of(encoder: nn.Module, *, coarse: bool = False) -> dict[str, int]:
    """Return the layer of each parameter, counted from the input.

    Parameters
    ----------
    encoder
        Encoder of timm's convention.
    coarse
        Whether to count stages instead of layers.

    Raises
    ------
    InputError
        If the encoder has no ``group_matcher``.
    """
    matcher: Any = getattr(encoder, "group_matcher", None)
    if not callable(matcher):
        raise InputError(
            f"{type(encoder).__name__} has no group_matcher, which names its layers in order of"
            " depth, so it cannot be trained in part",
            fix="use an encoder of timm or TCGN, or encoder_train=none",
        )
    return dict(group_parameters(encoder, matcher(coarse=coarse), reverse=True))


def trained_parameters(encoder: nn.Module, which: EncoderTrain) -> set[str]:
    """Return names of the encoder's parameters that are trained.

    The head is never trained, since a bag does not read it. The last stage is the deepest one with
    more than one weight matrix. A final norm or projection alone is not a stage, but is trained
    together with it.
    """
    head = {id(parameter) for parameter in encoder.get_classifier().parameters()}  # type: ignore[operator]
    trunk = {
        name: parameter.ndim
        for name, parameter in encoder.named_parameters()
        if id(parameter) not in head
    }
    if which == "lora":
        return {name for name in trunk if ADAPTER in name}
    if which != "last":
        return set(trunk) if which == "all" else set()
    layers = {
        name: layer for name, layer in layers_of(encoder, coarse=True).items() if name in trunk
    }
    weights = [layers[name] for name, ndim in trunk.items() if ndim > 1]
    last = max(layer for layer in weights if weights.count(layer) > 1)
    return {name for name, layer in layers.items() if layer >= last}
