"""One patient's prediction: by the models that may speak for it, from all tiles of its slides as one bag."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.batches.bag_files import read_bag
from tcgn_mil.inference.fold_models import FoldModel, models_for
from tcgn_mil.io.feature_files import read_feature_info
from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.signatures.set_weights import mean_weights
from tcgn_mil.types.features import LEVEL0, FeatureInfo
from tcgn_mil.types.genes import GenePanel


@dataclass(frozen=True)
class PatientPrediction:
    """One patient over the union of the folds' genes.

    Attributes
    ----------
    mean, sd
        (G,) in the training unit; NaN for a gene that no usable model has; sd is NaN with one model.
    models
        Folds used.
    infos
        The patient's slides.
    attention
        (N,) mean over heads and models, sums to one over the patient's tiles.
    tile_scores
        (N, mapped genes) in the standardised target space.
    signature_scores
        (N, mapped signatures), means over their genes.
    coords, slide_index
        (N, 2) and (N,) of the tiles.
    mean_features
        (D,) mean over tiles, then over slides.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]
    models: tuple[int, ...]
    infos: tuple[FeatureInfo, ...]
    attention: NDArray[np.float32]
    tile_scores: NDArray[np.float32]
    signature_scores: NDArray[np.float32]
    coords: NDArray[np.int64]
    slide_index: NDArray[np.int64]
    mean_features: NDArray[np.float32]


def predict_patient(
    patient: str,
    paths: Sequence[Path],
    models: Sequence[FoldModel],
    panel: GenePanel,
    mapped: Sequence[str],
    signatures: Sequence[GeneSet] = (),
) -> PatientPrediction:
    """Predict one patient from all tiles of its slides as one bag."""
    bag = read_bag(paths)
    usable = models_for(patient, models)
    expression = np.full((len(usable), len(panel)), np.nan, dtype=np.float32)
    scores = np.full((len(usable), len(bag.coords), len(mapped)), np.nan, dtype=np.float32)
    signature_scores = np.zeros((len(bag.coords), len(signatures)), dtype=np.float32)
    attention = np.zeros(len(bag.coords), dtype=np.float32)
    set_weights = mean_weights(signatures, [fold.info.panel for fold in usable])
    for row, (fold, sets) in enumerate(zip(usable, set_weights, strict=True)):
        own = fold.info.panel
        column_of = {gene: column for column, gene in enumerate(own.genes)}
        drawn = [column for column, gene in enumerate(mapped) if gene in column_of]
        wanted = [*(mapped[column] for column in drawn), *sets.genes]
        found = fold.predict(bag, [column_of[gene] for gene in wanted])
        expression[row, own.index_in(panel.genes)] = fold.info.scaler.unscale(found.expression)
        scores[row][:, drawn] = found.tile_expression[:, : len(drawn)]
        signature_scores += found.tile_expression[:, len(drawn) :] @ sets.weights
        attention += found.attention / len(usable)
    return PatientPrediction(
        mean=_over_models(np.nanmean, expression),
        sd=_over_models(np.nanstd, expression)
        if len(usable) > 1
        else np.full(len(panel), np.nan, np.float32),
        models=tuple(fold.info.fold.index for fold in usable),
        infos=tuple(read_feature_info(path) for path in paths),
        attention=attention,
        tile_scores=_over_models(np.nanmean, scores),
        signature_scores=signature_scores,
        coords=bag.coords,
        slide_index=bag.slide_index,
        mean_features=np.mean(
            [
                bag.features[bag.slide_index == index].mean(axis=0)
                for index in np.unique(bag.slide_index)
            ],
            axis=0,
        ),
    )


def unplaced(rows: Iterable[PatientPrediction]) -> list[str]:
    """Slides whose feature files do not say where tiles lie."""
    return [info.slide_id for row in rows for info in row.infos if info.positions != LEVEL0]


def on_their_slides(prediction: PatientPrediction) -> PatientPrediction:
    """The same, with tiles whose place on the slide is not known on none (-1), so that no map shows them."""
    lost = [index for index, info in enumerate(prediction.infos) if info.positions != LEVEL0]
    slide_index = np.where(np.isin(prediction.slide_index, lost), -1, prediction.slide_index)
    return dataclasses.replace(prediction, slide_index=slide_index)


def _over_models(reduce: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean or sd over the models that have a gene, NaN where none has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN genes are NaN on purpose
        return np.asarray(reduce(values, axis=0), dtype=np.float32)
