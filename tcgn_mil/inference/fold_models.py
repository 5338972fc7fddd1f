"""Load the slide models of a finetune run, one per fold, and choose those for a patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tcgn_mil.batches.bag_files import Bag, mean_features
from tcgn_mil.checkpoints import SlideModel, SlideModelInfo, load_slide_model
from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.inference.slides import BagPrediction, predict_bag
from tcgn_mil.models.component_regression import ComponentRegression
from tcgn_mil.types.genes import GenePanel

TRAINING_SLIDES = "slides.csv"
# Begins the names of training patients in a model that was published without their names.
REMOVED_NAME = "removed-"
NOT_KNOWN = "not known"


@dataclass(frozen=True)
class FoldModel:
    """Model of one fold, with the facts of its checkpoint."""

    model: SlideModel
    info: SlideModelInfo

    def predict(self, bag: Bag, tile_genes: Sequence[int]) -> BagPrediction:
        """Predict one patient.

        If the model was trained on slides one by one (``several_slides=mean``), each slide is
        predicted by itself and the predictions are averaged.

        Parameters
        ----------
        bag
            Tiles of all slides of the patient.
        tile_genes
            Columns of the genes for which tiles are scored.

        Raises
        ------
        InputError
            If tiles are to be scored by a model without tile scores (``model.kind`` is ridge or
            kernel).
        """
        if isinstance(self.model, ComponentRegression):
            return _predict_by_means(self.model, bag, tile_genes)
        config = self.info.provenance.get("config", {})
        if config.get("several_slides") != "mean":
            return predict_bag(self.model, bag, tile_genes=tile_genes)
        slides = [np.flatnonzero(bag.slide_index == index) for index in np.unique(bag.slide_index)]
        parts = [
            predict_bag(self.model, bag.select(rows), tile_genes=tile_genes) for rows in slides
        ]
        attention = np.empty(len(bag.coords), dtype=np.float32)
        scores = np.empty((len(bag.coords), len(tile_genes)), dtype=np.float32)
        for rows, part in zip(slides, parts, strict=True):
            # Divided by the number of slides, so that attention sums to one over the patient.
            attention[rows], scores[rows] = part.attention / len(parts), part.tile_expression
        return BagPrediction(
            np.mean([part.expression for part in parts], axis=0), attention, scores
        )


def _predict_by_means(
    model: ComponentRegression, bag: Bag, tile_genes: Sequence[int]
) -> BagPrediction:
    """Predict from the mean over the tiles of each slide, and then over slides."""
    if len(tile_genes):
        raise InputError(
            f"a model of kind {model.config.kind} reads the mean over tiles and has no tile scores",
            fix="draw no maps (--no-maps), or train with --kind attention",
        )
    attention = np.empty(len(bag.features), dtype=np.float32)
    slides = np.unique(bag.slide_index)
    means = []
    for index in slides:
        rows = bag.slide_index == index
        means.append(mean_features(bag.features[rows]))
        attention[rows] = 1 / (rows.sum() * len(slides))
    features = mean_features(np.stack(means))
    return BagPrediction(
        model.predict(features[None])[0],
        attention,
        np.empty((len(bag.features), 0), dtype=np.float32),
    )


def load_fold_models(folder: str | Path) -> list[FoldModel]:
    """Load all ``fold<k>.safetensors`` of a finetune run, in the order of k."""
    paths = sorted(
        Path(folder).glob("fold*.safetensors"), key=lambda path: int(path.stem.removeprefix("fold"))
    )
    return [FoldModel(*load_slide_model(path)) for path in paths]


def models_for_encoder(encoder: str, models: Sequence[FoldModel]) -> list[FoldModel]:
    """Return the models that read the features of an encoder.

    Where encoders were fine-tuned, each fold has its own. If no model reads the features, all
    models are returned, so that the check of the features against the models reports the
    difference.
    """
    return [fold for fold in models if fold.info.encoder == encoder] or list(models)


def patients_of_training_slides(folder: str | Path) -> dict[str, str]:
    """Return the patient of each slide in the cohort of a run.

    Feature files need not name the patient, so the run keeps this table. It is empty for runs from
    before the table was written.
    """
    path = Path(folder) / TRAINING_SLIDES
    if not path.is_file():
        return {}
    table = read_own_csv(
        path,
        what="the table of a model's slides",
        fix="copy the folder of the model again, or train it again",
        needs=("slide_id", "patient_id"),
        dtype=str,
        keep_default_na=False,
    )
    return dict(zip(table["slide_id"], table["patient_id"], strict=True))


def union_panel(models: Sequence[FoldModel]) -> GenePanel:
    """Return the genes of any of the models, in order of first appearance.

    The folds can differ, since each one chose its genes on its own training patients.
    """
    return GenePanel(
        tuple(dict.fromkeys(gene for model in models for gene in model.info.panel.genes))
    )


def models_for_patient(patient: str, models: Sequence[FoldModel]) -> list[FoldModel]:
    """Return the models whose prediction of a patient is fair.

    For a patient of the cross-validation this is the model that tested on it; for a new patient all
    models.
    """
    return [fold for fold in models if patient in fold.info.fold.test] or list(models)


def relation_to_models(patient: str, models: Sequence[FoldModel]) -> str:
    """Return how a patient is related to the models.

    Returns
    -------
    ``out of fold`` if a model tested on the patient, ``trained on`` if models only saw it in
    training or validation (their predictions are then too good), or ``new``. It is ``not known`` if
    the models were published without the names of their patients.
    """
    folds = [fold.info.fold for fold in models]
    if any(name.startswith(REMOVED_NAME) for fold in folds for name in fold.test):
        return NOT_KNOWN
    if any(patient in fold.test for fold in folds):
        return "out of fold"
    return "trained on" if any(patient in {*fold.train, *fold.val} for fold in folds) else "new"
