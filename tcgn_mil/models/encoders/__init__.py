"""Spot and tile encoders: TCGN, models of timm, pathology encoders, and networks of your own."""

from tcgn_mil.models.encoders.architecture import Architecture, build
from tcgn_mil.models.encoders.create import create_encoder, encoder_features, input_of
from tcgn_mil.models.encoders.registered import ENCODERS, RegisteredEncoder, register_encoder
from tcgn_mil.models.encoders.start import StartedEncoder, start_encoder
from tcgn_mil.models.encoders.token_pooling import PooledEncoder, pool_own_tokens, pool_tokens
from tcgn_mil.models.network_input import EncoderInput

__all__ = [
    "ENCODERS",
    "Architecture",
    "EncoderInput",
    "PooledEncoder",
    "RegisteredEncoder",
    "StartedEncoder",
    "build",
    "create_encoder",
    "encoder_features",
    "input_of",
    "pool_own_tokens",
    "pool_tokens",
    "register_encoder",
    "start_encoder",
]
