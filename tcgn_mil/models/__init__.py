"""Models: TCGN and other spot encoders, their weights and heads, and the slide model.

Importing this package registers ``tcgn_ti``, ``tcgn_xs`` and ``tcgn_tiny`` with timm.
"""

from tcgn_mil.models.encoders import (
    create_encoder,
    encoder_features,
    input_of,
    register_encoder,
)
from tcgn_mil.models.folded import FoldedTCGN, fold_for_inference
from tcgn_mil.models.network_input import EncoderInput
from tcgn_mil.models.published import (
    TrunkReport,
    convert_published_state_dict,
    load_cmt_trunk,
    to_published_state_dict,
)
from tcgn_mil.models.tcgn import TCGN, TCGNConfig
from tcgn_mil.models.tcgn_variants import CONFIGS
from tcgn_mil.models.weights import create_model, load_trunk, load_weights, read_tensors

__all__ = [
    "CONFIGS",
    "TCGN",
    "EncoderInput",
    "FoldedTCGN",
    "TCGNConfig",
    "TrunkReport",
    "convert_published_state_dict",
    "create_encoder",
    "create_model",
    "encoder_features",
    "fold_for_inference",
    "input_of",
    "load_cmt_trunk",
    "load_trunk",
    "load_weights",
    "read_tensors",
    "register_encoder",
    "to_published_state_dict",
]
