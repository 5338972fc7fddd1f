"""Options of every verb that takes an encoder: how it is built, pooled, and given its weights."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError
from tcgn_mil.pathology import Pooling, Scalar

# Forms of --encoder, for help texts.
ENCODER_FORMS = (
    "a checkpoint of tcgn-mil pretrain; an encoder of the registry such as uni2-h"
    " (tcgn-mil encoders lists them); hf-hub:<owner>/<name>, with or without @<revision>;"
    " local-dir:<folder with the files of a hub repository>; timm:<model>; a YAML file with an"
    " entry of your own; or a file of weights with --encoder-model"
)


@config_class
class EncoderOptions:
    """Options that say how an encoder is built, pooled, and given its weights."""

    model: str | None = Field(
        None,
        description="Encoder of the registry, or model of timm, that a file or folder of weights"
        " belongs to.",
    )
    pooling: Pooling | None = Field(
        None,
        description="Features of a tile: cls (the class token), mean (of the tokens after class and"
        " register tokens) or cls+mean. The default is that of the encoder. It belongs to the"
        " identity of the features.",
    )
    arguments: dict[str, Scalar] = Field(
        default_factory=dict,
        description="Arguments with which timm builds the model, such as {img_size: 224}. They"
        " replace those of the registry and of the configuration beside the weights.",
    )
    pretrained: bool = Field(False, description="Download the weights of a timm model.")
    untrained: bool = Field(
        False,
        description="Use random weights, always the same ones. The features are labelled so.",
    )

    def __post_init__(self) -> None:
        if self.pretrained and self.untrained:
            raise InputError(
                "pretrained and untrained weights are both asked for",
                fix="give --pretrained or --untrained, not both",
            )

    def as_arguments(self) -> dict[str, Any]:
        """Return the options as arguments of :func:`tcgn_mil.open_encoder`."""
        return {
            "model": self.model,
            "pooling": self.pooling,
            "arguments": dict(self.arguments),
            "pretrained": self.pretrained,
            "untrained": self.untrained,
        }


@config_class
class LoraSettings:
    """Size of low-rank adapters (LoRA), through which a large encoder is trained."""

    rank: int = Field(8, ge=1, description="Rank of the adapters of each layer of attention.")
    alpha: int = Field(
        16, ge=1, description="Scale: what the adapters add is multiplied by alpha / rank."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout in front of the adapters.")
