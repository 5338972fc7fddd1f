"""The models of a finetune run, one a fold, and which of them may speak for a patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.batches.bag_files import Bag
from tcgn_mil.checkpoints import SlideModelInfo, load_slide_model
from tcgn_mil.inference.slides import SlidePrediction, predict_bag
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.types.genes import GenePanel

TRAINING_SLIDES = "slides.csv"


@dataclass(frozen=True)
class FoldModel:
    """One fold's model with what it says of itself."""

    model: SlideRegressor
    info: SlideModelInfo

    def predict(self, bag: Bag, tile_genes: Sequence[int]) -> SlidePrediction:
        """A patient's prediction; the mean over slides where the model was trained on slides one by one."""
        settings = self.info.provenance.get("config", {})
        if settings.get("several_slides") != "mean":
            return predict_bag(self.model, bag, tile_genes=tile_genes)
        slides = [np.flatnonzero(bag.slide_index == index) for index in np.unique(bag.slide_index)]
        parts = [
            predict_bag(self.model, Bag(*(a[rows] for a in bag)), tile_genes=tile_genes)
            for rows in slides
        ]
        attention = np.empty(len(bag.coords), dtype=np.float32)
        scores = np.empty((len(bag.coords), len(tile_genes)), dtype=np.float32)
        for rows, part in zip(slides, parts, strict=True):
            attention[rows], scores[rows] = part.attention / len(parts), part.tile_expression
        return SlidePrediction(
            np.mean([part.expression for part in parts], axis=0), attention, scores
        )


def load_fold_models(folder: str | Path) -> list[FoldModel]:
    """All ``fold<k>.safetensors`` of a finetune run, in order."""
    paths = sorted(
        Path(folder).glob("fold*.safetensors"), key=lambda path: int(path.stem.removeprefix("fold"))
    )
    return [FoldModel(*load_slide_model(path)) for path in paths]


def models_of(encoder: str, models: Sequence[FoldModel]) -> list[FoldModel]:
    """The models that read an encoder's features; all where none does, so that what checks them says so.

    Where encoders were fine-tuned, each fold has its own.
    """
    return [fold for fold in models if fold.info.encoder == encoder] or list(models)


def training_patients(folder: str | Path) -> dict[str, str]:
    """Slide -> patient as the cohort of the models named it, which feature files need not."""
    path = Path(folder) / TRAINING_SLIDES
    if not path.is_file():
        return {}
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return dict(zip(table["slide_id"], table["patient_id"], strict=True))


def union_panel(models: Sequence[FoldModel]) -> GenePanel:
    """Genes of any fold, in order of first appearance (each fold chose its genes on its own training patients)."""
    return GenePanel(
        tuple(dict.fromkeys(gene for model in models for gene in model.info.panel.genes))
    )


def models_for(patient: str, models: Sequence[FoldModel]) -> list[FoldModel]:
    """The model that tested on a patient, if it was cross-validated; all models for a new patient."""
    seen = [
        fold
        for fold in models
        if patient in {*fold.info.fold.train, *fold.info.fold.val, *fold.info.fold.test}
    ]
    return [fold for fold in seen if patient in fold.info.fold.test] or list(models)


def relation(patient: str, models: Sequence[FoldModel]) -> str:
    """``out of fold`` (a model tested on the patient), ``new`` (no model saw it) or ``trained on``, which flatters."""
    folds = [fold.info.fold for fold in models]
    if any(patient in fold.test for fold in folds):
        return "out of fold"
    return "trained on" if any(patient in {*fold.train, *fold.val} for fold in folds) else "new"
