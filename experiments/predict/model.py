"""Open all that a prediction needs of a slide model, from a folder or from the hub."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.checkpoints.file_format import SLIDE_MODEL
from tcgn_mil.checkpoints.published import ModelFolder, open_model
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.run_folder import finished_summary, read_run
from tcgn_mil.inference.fold_models import (
    FoldModel,
    models_for_encoder,
    union_panel,
)
from tcgn_mil.inference.out_of_distribution import Reference
from tcgn_mil.inference.reference_file import read_reference
from tcgn_mil.inference.training_names import read_training_names
from tcgn_mil.io.feature_files import read_feature_info
from tcgn_mil.io.gene_list import read_model_genes
from tcgn_mil.types.genes import GenePanel


@dataclass(frozen=True)
class OpenedModel:
    """A slide model, ready to predict the patients of some feature files.

    Attributes
    ----------
    folder
        Folder of the run or of the published model, and its repository.
    models
        The fold models that read the features.
    reference
        Training patients to which the patients are compared.
    patient_of
        Patient of each slide that the model was trained on.
    """

    folder: ModelFolder
    models: Sequence[FoldModel]
    reference: Reference
    patient_of: Mapping[str, str]

    @cached_property
    def panel(self) -> GenePanel:
        """Genes that any of the models predicts."""
        return union_panel(self.models)

    @cached_property
    def genes(self) -> pd.DataFrame:
        """One row per gene: r in cross-validation, width of the intervals, and more."""
        return read_model_genes(self.folder.path)

    @cached_property
    def coverage(self) -> dict[str, Any] | None:
        """Stated and measured coverage of the intervals."""
        summary = finished_summary(self.folder.path) or {}
        coverage: dict[str, Any] | None = summary.get("coverage")
        return coverage


def find_slide_model(source: str | Path) -> ModelFolder:
    """Find a finished slide model in a folder, or download it from the hub.

    Parameters
    ----------
    source
        Folder that ``finetune``, ``slide-cv`` or ``publish`` wrote, or
        ``hf-hub:owner/name[@revision]``.

    Raises
    ------
    InputError
        If there is no such model, or it is not a finished slide model.
    """
    folder = open_model(source, kind=SLIDE_MODEL)
    read_run(folder.path, kinds=("finetune",), verbs="finetune, slide-cv or publish")
    return folder


def open_for_features(
    folder: ModelFolder,
    every: Sequence[FoldModel],
    features: Mapping[str, Path],
    *,
    encoder: str | None = None,
) -> OpenedModel:
    """Choose the models of a folder that read some features, and recognise training patients.

    Parameters
    ----------
    folder
        Folder of the model.
    every
        Models of all its folds.
    features
        Feature file of each slide. Training patients are recognised by them.
    encoder
        Identity of the encoder of the features. Without it, the first file that can be read tells.

    Raises
    ------
    InputError
        If the reference of the model cannot be read.
    """
    patient_of = {}
    for slide, path in features.items():
        # A file that cannot be read costs its slide a row later, and nothing here.
        with contextlib.suppress(InputError):
            info = read_feature_info(path)
            patient_of[slide] = info.patient_id
            encoder = encoder or info.encoder
    # After fine-tuning of the encoder each fold has an encoder of its own, and only its model reads
    # features of that encoder.
    models = list(every) if encoder is None else models_for_encoder(encoder, every)
    known = read_training_names(folder.path).recognise(patient_of, every)
    return OpenedModel(
        folder,
        known.in_models(models),
        known.in_reference(read_reference(folder.path)),
        known.patient_of,
    )
