"""Predict bulk gene expression from whole-slide images with TCGN and multiple-instance learning.

The names below are what a notebook needs. Each is loaded when it is first used, so that importing
the package is cheap and loads no torch::

    import tcgn_mil

    encoder = tcgn_mil.open_encoder("encoder/encoder.safetensors")
    tiles = tcgn_mil.tile_slide("slide.svs", "tiles")
    features = tcgn_mil.encode_slide("slide.svs", tiles, encoder).features

    config = tcgn_mil.SlideCvConfig(cohort="cohort.h5ad", features="features")
    summary = tcgn_mil.cross_validate(config, "slide-cv")

    model = tcgn_mil.SlideModel.from_pretrained("slide-cv")  # or "owner/name" on the hub
    predicted = model.predict("features")

What the command line does in one verb, a notebook does in one call with the same config class.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tcgn_mil.version import __version__

if TYPE_CHECKING:
    from tcgn_mil.experiments.associate.config import AssociationConfig
    from tcgn_mil.experiments.associate.run import run as associate
    from tcgn_mil.experiments.notebook import encode_slide, tile_slide
    from tcgn_mil.experiments.predict.config import PredictConfig
    from tcgn_mil.experiments.predict.run import run as predict
    from tcgn_mil.experiments.publish.pretrained import Encoder, SlideModel
    from tcgn_mil.experiments.slide_level.config import SlideCvConfig
    from tcgn_mil.experiments.slide_level.run import run as cross_validate
    from tcgn_mil.experiments.survive.config import SurviveConfig
    from tcgn_mil.experiments.survive.run import run as survive
    from tcgn_mil.inference.fold_models import load_fold_models
    from tcgn_mil.inference.tile_encoder import open_encoder
    from tcgn_mil.io.cohort_file import read_cohort
    from tcgn_mil.io.expression_file import read_expression
    from tcgn_mil.io.feature_files import read_features
    from tcgn_mil.preprocessing.slides.readers import open_slide
    from tcgn_mil.signatures.gene_sets import load_gene_sets
    from tcgn_mil.signatures.scores import score_signatures

# Public name -> module, and the name there where it differs.
_PUBLIC = {
    "open_slide": ("tcgn_mil.preprocessing.slides.readers", ""),
    "tile_slide": ("tcgn_mil.experiments.notebook", ""),
    "open_encoder": ("tcgn_mil.inference.tile_encoder", ""),
    "encode_slide": ("tcgn_mil.experiments.notebook", ""),
    "read_features": ("tcgn_mil.io.feature_files", ""),
    "read_cohort": ("tcgn_mil.io.cohort_file", ""),
    "SlideCvConfig": ("tcgn_mil.experiments.slide_level.config", ""),
    "cross_validate": ("tcgn_mil.experiments.slide_level.run", "run"),
    "load_fold_models": ("tcgn_mil.inference.fold_models", ""),
    "PredictConfig": ("tcgn_mil.experiments.predict.config", ""),
    "predict": ("tcgn_mil.experiments.predict.run", "run"),
    "Encoder": ("tcgn_mil.experiments.publish.pretrained", ""),
    "SlideModel": ("tcgn_mil.experiments.publish.pretrained", ""),
    "read_expression": ("tcgn_mil.io.expression_file", ""),
    "load_gene_sets": ("tcgn_mil.signatures.gene_sets", ""),
    "score_signatures": ("tcgn_mil.signatures.scores", ""),
    "AssociationConfig": ("tcgn_mil.experiments.associate.config", ""),
    "associate": ("tcgn_mil.experiments.associate.run", "run"),
    "SurviveConfig": ("tcgn_mil.experiments.survive.config", ""),
    "survive": ("tcgn_mil.experiments.survive.run", "run"),
}

__all__ = [
    "AssociationConfig",
    "Encoder",
    "PredictConfig",
    "SlideCvConfig",
    "SlideModel",
    "SurviveConfig",
    "__version__",
    "associate",
    "cross_validate",
    "encode_slide",
    "load_fold_models",
    "load_gene_sets",
    "open_encoder",
    "open_slide",
    "predict",
    "read_cohort",
    "read_expression",
    "read_features",
    "score_signatures",
    "survive",
    "tile_slide",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tcgn_mil' has no attribute {name!r}")
    module, its_name = _PUBLIC[name]
    value = getattr(importlib.import_module(module), its_name or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
