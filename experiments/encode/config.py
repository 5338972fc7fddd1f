"""Settings of ``tcgn-mil encode``."""

from __future__ import annotations

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.settings.training import Precision


@config_class
class EncodeSettings:
    """Settings of the encoding of tiles."""

    encoder: str = Field(
        "encoder/encoder.safetensors",
        description="Encoder checkpoint of tcgn-mil pretrain, or timm:<model name>.",
    )
    batch_size: int = Field(64, ge=1, description="Tiles in a batch.")
    precision: Precision = Field(
        "32-true", description="Arithmetic: 32-true, bf16-mixed or 16-mixed."
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="Device: auto (a GPU if there is one), cpu, mps, cuda, or one of several GPUs"
        " such as cuda:1.",
    )
    pretrained: bool = Field(False, description="Download the pretrained weights of a timm model.")
    allow_other_size: bool = Field(
        False,
        description="Accept tiles of another physical size than those the encoder was trained on.",
    )
