"""Settings of the slide model, a network or a closed-form regression (``tcgn_mil.models``)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.errors import InputError

Kind = Literal["auto", "attention", "ridge", "kernel"]
Form = Literal["pooled", "additive"]
Input = Literal["auto", "standardise", "ranks"]
EncoderTrain = Literal["none", "last", "lora", "all"]


@config_class
class MilConfig:
    """Kind and size of the slide model."""

    kind: Kind = Field(
        "auto",
        description="Kind of the slide model: attention is the network that pools tiles; ridge and"
        " kernel are closed-form regressions on the mean features of a patient, linear and"
        " Gaussian, which predict principal components of expression; auto is kernel if every"
        " slide has one feature vector, and attention otherwise.",
    )
    components: int = Field(
        50,
        ge=1,
        description="Principal components of expression that ridge and kernel predict, each with"
        " penalties of its own.",
    )
    input: Input = Field(
        "auto",
        description="Scale of the features that the network reads: standardise by mean and standard"
        " deviation of the training tiles, or ranks, their normal scores among the training"
        " patients, for tables of slide features with heavy tails or missing values; auto is ranks"
        " if every slide has one feature vector, and standardise otherwise.",
    )
    pooling: str = Field(
        "gated",
        description="Aggregator of the tiles: gated attention; for comparison attention without"
        " gates, the mean or the max over tiles, or a transformer of two layers in which tiles"
        " attend to one another at linear cost, followed by the mean. Own aggregators can be"
        " registered (tcgn_mil.models.aggregators).",
    )
    form: Form = Field(
        "pooled",
        description="Form of the model: in pooled the head reads learned values only; in"
        " additive it also reads the features of the encoder, through the head that was trained on"
        " spots. additive is the better start with an encoder that was trained on spots, and needs"
        " one (--encoder); pooled works with any features, and is therefore the default.",
    )
    embedding: int = Field(64, ge=1, description="Width of the learned value of a tile.")
    attention_hidden: int = Field(32, ge=1, description="Width of the attention network.")
    heads: int = Field(1, ge=1, description="Number of attention heads.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Dropout on the values of the tiles.")
    spot_hidden: int = Field(
        0,
        ge=0,
        description="Width of the hidden layer of the head that was trained on spots. The run sets"
        " it from the encoder; 0 means a head without a hidden layer (timm models).",
    )

    def __post_init__(self) -> None:
        if self.pooling == "transformer" and self.embedding % self.heads:
            raise InputError(
                f"model.embedding {self.embedding} is not a multiple of model.heads {self.heads}",
                fix="give an embedding that the number of heads divides",
            )
