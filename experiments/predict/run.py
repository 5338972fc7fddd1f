"""Predict bulk expression of patients from stored features or slides, with maps of the slides.

A patient of the training cohort is predicted out of fold, by the one model that did not see it; the
standard deviation is then unknown (NaN). A new patient is predicted by all fold models, with their
standard deviation (docs/protocol.md, section Uncertainty). A patient that every model trained or
validated on, which folds from a file allow, is predicted by all models and labelled ``trained on``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.engines.engine import Engine
from tcgn_mil.experiments.predict.config import PredictConfig, SlideOptions
from tcgn_mil.experiments.predict.from_slides import encode_slides
from tcgn_mil.experiments.predict.map_selection import (
    gene_sets_to_draw,
    genes_to_draw,
    has_tile_scores,
    without_maps,
)
from tcgn_mil.experiments.predict.maps import write_maps
from tcgn_mil.experiments.predict.model import find_slide_model, open_for_features
from tcgn_mil.experiments.predict.patients import predict_patients, without_normal_slides
from tcgn_mil.experiments.predict.tables import write_prediction
from tcgn_mil.experiments.runs.inputs import begin_again, existing
from tcgn_mil.experiments.runs.predictability import gene_predictability
from tcgn_mil.experiments.runs.run_folder import RUN_FILE
from tcgn_mil.inference.fold_models import load_fold_models
from tcgn_mil.inference.patients import (
    PatientPrediction,
    slides_without_positions,
    without_unplaced_tiles,
)
from tcgn_mil.io.failures import FILE_NAME as FAILURES
from tcgn_mil.io.failures import SHARDS_FOLDER, Failure, record_failures, unexpected
from tcgn_mil.io.feature_files import find_features
from tcgn_mil.progress import tell
from tcgn_mil.text import preview
from tcgn_mil.types.features import untrained_labels
from tcgn_mil.types.shards import Shard

KIND = "predict"
WORK = "work"  # folder in that of the run, with the tiles and features of slides


class PredictionRun(NamedTuple):
    """Summary of a prediction run, and the slides that failed."""

    summary: dict[str, Any]
    failures: list[Failure]


def run(
    config: PredictConfig,
    out_dir: str | Path,
    *,
    slides: SlideOptions | None = None,
    engine: Engine = Engine(),
) -> PredictionRun:
    """Predict patients from features, or from slides that are tiled and encoded first.

    The folder gets ``predicted.h5ad`` (patients x genes in the training unit, with the layers sd,
    low and high; ``obs`` has ``ood_score``, ``ood_p``, ``ood_state`` and ``ood_level``),
    ``predicted.csv`` or ``.parquet``, ``predicted_long.csv.gz`` (value, sd, bounds, relation and
    out-of-distribution score in each row), ``failures.csv`` and maps of the slides. A run starts
    from the beginning each time, since it takes seconds per patient. If its inputs changed, earlier
    results are moved to the folder set-aside. Tiles and features of an earlier attempt are used
    again if they are current.

    Parameters
    ----------
    config
        Model, features and maps.
    out_dir
        Folder to write.
    slides
        Slides to tile and encode. ``config.features`` is then not used, and the pictures of the
        slides are drawn under the maps if ``config.thumbnails`` is None.
    engine
        Workers that tile and encode the slides; by default this process.

    Returns
    -------
    PredictionRun

    Raises
    ------
    InputError
        If the model is not a finished run, if the features are not those that it reads, or if no
        slide could be predicted.
    """
    if slides is None:
        return _predict_features(config, Path(out_dir))
    work = encode_slides(
        slides,
        config.model,
        Path(out_dir) / WORK,
        allow_other_size=config.allow_other_size,
        engine=engine,
    )
    thumbnails = config.thumbnails or str(work.tiles)
    config = dataclasses.replace(config, features=str(work.features), thumbnails=thumbnails)
    result = _predict_features(config, Path(out_dir), failed=work.failures, notes=work.notes)
    if not slides.keep_features:
        work.remove()
    return result


def prepare_share(
    config: PredictConfig,
    out_dir: str | Path,
    slides: SlideOptions,
    shard: Shard,
    engine: Engine = Engine(),
) -> tuple[list[str], list[Failure]]:
    """Tile and encode one share of the slides, for a run of all that predicts them.

    Predicting takes seconds a patient, and a patient's slides may be in several shares. So the
    shares do the long part, and :func:`run` with the same folder then finds the features of all.

    Parameters
    ----------
    config, out_dir, slides, engine
        As in :func:`run`.
    shard
        The share.

    Returns
    -------
    Slides that have features, and those that failed.
    """
    work = encode_slides(
        slides,
        config.model,
        Path(out_dir) / WORK,
        allow_other_size=config.allow_other_size,
        shard=shard,
        engine=engine,
    )
    record_failures(out_dir, work.failures, shard)
    return list(work.done), list(work.failures)


def _of_shares(out_dir: Path) -> frozenset[str]:
    """Return what :func:`prepare_share` wrote, which are no results of an earlier prediction."""
    shares = frozenset({WORK, SHARDS_FOLDER})
    return shares if (out_dir / RUN_FILE).is_file() else shares | {FAILURES}


def _predict_features(
    config: PredictConfig,
    out_dir: Path,
    *,
    failed: Sequence[Failure] = (),
    notes: Sequence[str] = (),
) -> PredictionRun:
    """Predict every patient that has features.

    `failed` are slides that failed before, and `notes` are added to those of the summary.
    """
    folder = find_slide_model(config.model)
    features, of_normal = without_normal_slides(find_features(config.features))
    model = open_for_features(folder, load_fold_models(folder.path), features)
    if not has_tile_scores(model.models):
        config = without_maps(config)
    # What cannot be drawn is refused before the folder is made and before minutes of prediction.
    genes = genes_to_draw(config, model)
    signatures = gene_sets_to_draw(config, genes, model.models)
    inputs = existing(config, ("model", "features", "thumbnails", "map_signatures"))
    out_dir, moved = begin_again(out_dir, KIND, config, inputs, keep=_of_shares(out_dir))
    names = tuple(gene_set.name for gene_set in signatures.kept)
    failures, of_maps = [*failed], list[str]()
    known = {gene: gene_predictability(model.genes, gene) for gene in genes}

    def draw(prediction: PatientPrediction) -> None:
        try:
            placed = without_unplaced_tiles(prediction)
            of_maps.extend(
                write_maps(
                    placed,
                    genes,
                    names,
                    config.thumbnails,
                    out_dir / "maps",
                    config.map_origin,
                    predictability=known,
                )
            )
        except Exception as error:
            # A thumbnail that cannot be read, for example. The prediction itself is valid.
            for info in prediction.infos:
                row = unexpected(error, info.slide_id, "map")
                reason = f"predicted, but no map was drawn: {row.reason}"
                failures.append(dataclasses.replace(row, reason=reason))

    predictions, unpredicted = predict_patients(
        model,
        features,
        genes,
        signatures.kept,
        allow_other_size=config.allow_other_size,
        then=draw if config.maps else None,
    )
    failures += unpredicted
    record_failures(out_dir, failures)
    if config.maps and (lost := slides_without_positions(predictions.values())):
        reason = "their feature files do not say where tiles lie on the slide"
        tell(f"no maps of {preview(lost)}: {reason}")
    if not predictions:
        raise InputError(
            f"no slide could be predicted: {failures[0].reason}", fix=failures[0].likely_fix
        )
    labels = untrained_labels(model.models[0].info.encoder)
    summary = write_prediction(
        config,
        model,
        predictions,
        signatures,
        out_dir,
        notes=[*labels, *notes, *of_normal, *moved, *of_maps],
    )
    return PredictionRun(summary, failures)
