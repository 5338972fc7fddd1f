"""Save and load checkpoints of slide models, one for each fold of a finetune run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tcgn_mil.checkpoints.file_format import (
    SLIDE_MODEL,
    from_shared_header,
    naming_the_file,
    read_header,
    shared_header,
    write_checkpoint,
)
from tcgn_mil.errors import InputError
from tcgn_mil.models.component_regression import KERNELS, ComponentRegression
from tcgn_mil.models.published import check_tensors
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.models.weights import read_tensors
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize
from tcgn_mil.types.tiles import NO_STAIN


@dataclass(frozen=True)
class SlideModelInfo:
    """Facts without which the weights of a slide model cannot be used.

    Attributes
    ----------
    config
        Aggregator and sizes of the model.
    in_features
        D, width of the features that it reads.
    panel
        Genes of the output, in order.
    scaler
        Target statistics of the fold's training patients.
    unit
        Unit of predictions after unscaling, for example ``log2(TPM + 1)``.
    encoder
        Identity of the encoder whose features the model reads.
    patch
        Physical size of the tiles.
    fold
        Patients on which the model was trained, validated and tested.
    provenance
        Training config and versions.
    stain
        Identity of the stain normalisation of the features.
    tiling
        Step of the grid, and the rules for tissue and quality, that all training slides had in
        common according to their feature files. New slides are tiled in the same way.
    """

    config: MilConfig
    in_features: int
    panel: GenePanel
    scaler: TargetScaler
    unit: str
    encoder: str
    patch: PatchSize
    fold: Fold
    provenance: Mapping[str, Any] = field(default_factory=dict)
    stain: str = NO_STAIN
    tiling: Mapping[str, Any] = field(default_factory=dict)


SlideModel = SlideRegressor | ComponentRegression


def save_slide_model(path: str | Path, model: SlideModel, info: SlideModelInfo) -> None:
    """Write a model to ``<name>.safetensors``, and the header to ``<name>.json`` as well.

    Raises
    ------
    InputError
        If a target statistic is not finite.
    """
    parts = {part: list(names) for part, names in info.fold.parts().items()}
    header = {
        "kind": SLIDE_MODEL,
        "config": asdict(info.config),
        "in_features": info.in_features,
        "unit": info.unit,
        "encoder": info.encoder,
        "stain": info.stain,
        "tiling": dict(info.tiling),
        "fold": {"index": info.fold.index, **parts},
        **shared_header(info),
    }
    write_checkpoint(path, model, header)


def read_slide_model_info(path: str | Path) -> SlideModelInfo:
    """Read the header of a slide model's checkpoint, without its weights.

    Raises
    ------
    InputError
        If the file is missing or damaged, is not a slide model's checkpoint, or was written by a
        later version of this package.
    """
    header = read_header(path, kind=SLIDE_MODEL)
    with naming_the_file(path):
        fold = header["fold"]
        parts = (tuple(fold[part]) for part in ("train", "val", "test"))
        return SlideModelInfo(
            # Early checkpoints state neither the kind of the model nor the scale of its input.
            config=MilConfig(**{"kind": "attention", "input": "standardise", **header["config"]}),
            in_features=int(header["in_features"]),
            unit=header["unit"],
            encoder=header["encoder"],
            # The first checkpoints have neither of these two.
            stain=header.get("stain", NO_STAIN),
            tiling=header.get("tiling", {}),
            fold=Fold(int(fold["index"]), *parts),
            **from_shared_header(header),
        )


def load_slide_model(path: str | Path) -> tuple[SlideModel, SlideModelInfo]:
    """Load a slide model from a checkpoint.

    Parameters
    ----------
    path
        ``fold<k>.safetensors``, as ``tcgn-mil finetune`` writes it.

    Returns
    -------
    The model in evaluation mode on the CPU, and the facts of its header.

    Raises
    ------
    InputError
        If the file is not a slide model's checkpoint, its aggregator is not registered, or its
        weights do not fit.
    """
    info = read_slide_model_info(path)
    tensors = read_tensors(path)
    with naming_the_file(path):
        # On the meta device the model has shapes and no memory. A header may claim a model of many
        # gigabytes; it is built only if the file holds as much.
        with torch.device("meta"):
            expected = {key: value.shape for key, value in _empty_model(info).state_dict().items()}
        try:
            check_tensors(tensors, expected, "the slide model")
        except InputError as error:
            raise InputError(
                error.reason, path=path, fix="copy the file again, or train the model again"
            ) from None
        model = _empty_model(info)
    model.load_state_dict(tensors)
    return model.eval(), info


def _empty_model(info: SlideModelInfo) -> SlideModel:
    if info.config.kind in KERNELS:
        patients = len(info.fold.train) + len(info.fold.val)
        return ComponentRegression(
            info.in_features, len(info.panel), info.config, patients=patients
        )
    return SlideRegressor(info.in_features, len(info.panel), info.config)
