"""Predict one patient by the models of a run, from all tiles of its slides."""

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
from tcgn_mil.inference.fold_models import FoldModel, models_for_patient
from tcgn_mil.inference.out_of_distribution import Reference, Verdict, shuffled
from tcgn_mil.io.feature_files import read_feature_info
from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.signatures.set_weights import mean_weights
from tcgn_mil.types.features import LEVEL0, FeatureInfo
from tcgn_mil.types.genes import GenePanel


@dataclass(frozen=True)
class PatientPrediction:
    """Prediction of one patient, for the union of the genes of all folds.

    Attributes
    ----------
    mean, sd
        (G,) mean and standard deviation over the models, in the unit of training. Both are NaN for
        a gene that no model has, and `sd` is NaN if there is one model.
    models
        Indices of the folds whose models were used.
    infos
        Headers of the feature files of the patient's slides.
    attention
        (N,) mean over heads and models; sums to one over the patient's tiles.
    tile_scores
        (N, mapped genes) in the standardised target space.
    signature_scores
        (N, mapped signatures), means over the genes of each signature.
    coords
        (N, 2) x and y of the tiles, in level-0 pixels.
    slide_index
        (N,) index of each tile's slide in `infos`.
    verdict
        Comparison with the training patients; None if no reference was given.
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
    verdict: Verdict | None


def predict_patient(
    patient: str,
    paths: Sequence[Path],
    models: Sequence[FoldModel],
    panel: GenePanel,
    mapped: Sequence[str],
    signatures: Sequence[GeneSet] = (),
    reference: Reference | None = None,
) -> PatientPrediction:
    """Predict one patient from all tiles of its slides as one bag.

    Parameters
    ----------
    patient
        Name of the patient, which selects the models (:func:`models_for_patient`).
    paths
        Feature files of the patient's slides.
    models
        Models of the run.
    panel
        Genes of the result.
    mapped
        Genes whose tiles are scored.
    signatures
        Gene sets whose tiles are scored.
    reference
        Training patients with which the patient is compared. A training patient is compared with
        the others.

    Raises
    ------
    InputError
        If the bag cannot be read (see :func:`tcgn_mil.batches.bag_files.read_bag`).
    """
    bag = read_bag(paths)
    usable = models_for_patient(patient, models)
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
        predicted = fold.predict(bag, [column_of[gene] for gene in wanted])
        expression[row, own.index_in(panel.genes)] = fold.info.scaler.unscale(predicted.expression)
        # The first columns are the mapped genes, the others are the genes of the signatures.
        scores[row][:, drawn] = predicted.tile_expression[:, : len(drawn)]
        signature_scores += predicted.tile_expression[:, len(drawn) :] @ sets.weights
        attention += predicted.attention / len(usable)
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
        verdict=None if reference is None else _verdict(patient, bag.features, reference),
    )


def _verdict(patient: str, tiles: NDArray[np.float32], reference: Reference) -> Verdict:
    if patient in reference.training:
        return reference.training[patient]
    return reference.judge(shuffled(tiles))


def slides_without_positions(predictions: Iterable[PatientPrediction]) -> list[str]:
    """Return the names of slides whose feature files do not say where the tiles lie."""
    return [
        info.slide_id
        for prediction in predictions
        for info in prediction.infos
        if info.positions != LEVEL0
    ]


def without_unplaced_tiles(prediction: PatientPrediction) -> PatientPrediction:
    """Set the slide index of tiles without a position to -1, so that no map shows them."""
    lost = [index for index, info in enumerate(prediction.infos) if info.positions != LEVEL0]
    slide_index = np.where(np.isin(prediction.slide_index, lost), -1, prediction.slide_index)
    return dataclasses.replace(prediction, slide_index=slide_index)


def _over_models(reduce: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reduce over the models that have a gene; NaN if no model has it."""
    with warnings.catch_warnings():
        # Numpy warns of genes that are NaN in all models, which are NaN in the result on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(reduce(values, axis=0), dtype=np.float32)
