"""Register networks that are not from timm as spot encoders, TCGN among them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import timm
from torch import nn

from tcgn_mil.errors import InputError
from tcgn_mil.models.network_input import TCGN_INPUT, EncoderInput
from tcgn_mil.models.tcgn_variants import CONFIGS
from tcgn_mil.models.weights import create_model
from tcgn_mil.registry import add_entry


class RegisteredEncoder(NamedTuple):
    """An encoder that is not from timm.

    Attributes
    ----------
    make
        Called as ``make(num_classes, **kwargs)``; returns the model in training mode.
    input_spec
        Size and normalisation of the images that it reads.
    """

    make: Callable[..., nn.Module]
    input_spec: EncoderInput


ENCODERS: dict[str, RegisteredEncoder] = {
    name: RegisteredEncoder(partial(create_model, name), TCGN_INPUT) for name in CONFIGS
}
_Make = TypeVar("_Make", bound=Callable[..., nn.Module])


def register_encoder(
    name: str, *, input_spec: EncoderInput = TCGN_INPUT
) -> Callable[[_Make], _Make]:
    """Register a network of your own as a spot encoder, as a decorator.

    The decorated class or function is called as ``make(num_classes, **kwargs)``. `num_classes` is
    the number of genes, or 0 for a network that returns its features. The model needs four methods:

    - ``forward_features(images)`` maps normalised images (B, 3, H, W) to the last map;
    - ``forward_head(last_map, pre_logits=False)`` maps it to genes (B, G), or to features (B, D);
    - ``get_classifier()`` returns the head, which ends in a linear layer;
    - ``reset_classifier(num_classes)`` replaces the head.

    To fine-tune the network on whole slides (``finetune --encoder-train``), it needs timm's
    ``group_matcher`` as well, which names its layers in order of depth.

    Parameters
    ----------
    name
        Name for :func:`create_encoder`, for the config key ``model`` and for checkpoints.
    input_spec
        Size and normalisation of the images that the network reads.

    Raises
    ------
    InputError
        If TCGN, timm or another registered encoder has this name.

    Examples
    --------
    >>> from torch import nn
    >>> @register_encoder("colour", input_spec=EncoderInput(32, (0.5,) * 3, (0.5,) * 3))
    ... class Colour(nn.Module):
    ...     def __init__(self, num_classes):
    ...         super().__init__()
    ...         self.reset_classifier(num_classes)
    ...
    ...     def reset_classifier(self, num_classes):
    ...         self.head = nn.Linear(3, num_classes) if num_classes else nn.Identity()
    ...
    ...     def get_classifier(self):
    ...         return self.head
    ...
    ...     def forward_features(self, images):
    ...         return images
    ...
    ...     def forward_head(self, last_map, pre_logits=False):
    ...         features = last_map.mean(dim=(2, 3))
    ...         return features if pre_logits else self.head(features)
    ...
    ...     def forward(self, images):
    ...         return self.forward_head(self.forward_features(images))
    >>> from tcgn_mil.models import create_encoder
    >>> create_encoder("colour", num_classes=5).head
    Linear(in_features=3, out_features=5, bias=True)
    >>> _ = ENCODERS.pop("colour")
    """

    def register(make: _Make) -> _Make:
        if timm.is_model(name):
            raise InputError(f"timm has a model named {name!r}", fix="choose another name")
        add_entry(ENCODERS, name, RegisteredEncoder(make, input_spec), what="encoder")
        return make

    return register
