"""Checkpoints of spot encoders and of slide models.

A checkpoint is one safetensors file. Its header holds the genes, the target statistics, the
physical size of the tiles and the provenance, so that weights and their meaning cannot be
separated. The same header is written as a JSON file beside it, for people to read.
"""

from tcgn_mil.checkpoints.encoders import (
    EncoderInfo,
    check_genes,
    load_encoder,
    read_encoder_info,
    save_encoder,
)
from tcgn_mil.checkpoints.slide_models import (
    SlideModel,
    SlideModelInfo,
    load_slide_model,
    read_slide_model_info,
    save_slide_model,
)
from tcgn_mil.models.weights import weights_digest

__all__ = [
    "EncoderInfo",
    "SlideModel",
    "SlideModelInfo",
    "check_genes",
    "load_encoder",
    "load_slide_model",
    "read_encoder_info",
    "read_slide_model_info",
    "save_encoder",
    "save_slide_model",
    "weights_digest",
]
