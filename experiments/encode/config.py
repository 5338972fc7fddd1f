"""Settings of ``tcgn-mil encode``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.settings.device_names import DEVICE_HELP, DEVICE_NAMES
from tcgn_mil.settings.encoder import ENCODER_FORMS, EncoderOptions

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
BATCH_HELP = "Tiles in a batch. Lower it if the memory of the device runs out."
PRECISION_HELP = (
    "Arithmetic: 32-true, bf16-mixed or 16-mixed; auto is 32-true on a CPU, and on a GPU what the"
    " encoder's card uses."
)
READERS_HELP = (
    "Processes that read tiles ahead of the encoder; 1 is a thread instead. The default is 1 on a"
    " CPU, and on a GPU the cores that may be used less one, at most 16. The features do not depend"
    " on it."
)


@config_class
class EncodeSettings:
    """Settings of the encoding of tiles."""

    encoder: str = Field(
        "encoder/encoder.safetensors",
        description=f"Encoder: {ENCODER_FORMS}.",
    )
    batch_size: int = Field(64, ge=1, description=BATCH_HELP)
    precision: Precision = Field("auto", description=PRECISION_HELP)
    device: str = Field(
        "auto",
        pattern=DEVICE_NAMES,
        description=DEVICE_HELP,
    )
    readers: int | None = Field(
        None,
        ge=1,
        description=READERS_HELP,
    )
    allow_other_size: bool = Field(
        False,
        description="Accept tiles of another physical size than those the encoder was trained on.",
    )
    encoder_options: EncoderOptions = Field(
        default_factory=EncoderOptions,
        description="How the encoder is built, pooled, and given its weights.",
    )
