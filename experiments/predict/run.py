"""Predict bulk expression of patients from stored features or slides, with maps of the slides.

A patient of the training cohort is predicted out of fold, by the one model that did not see it; the
standard deviation is then unknown (NaN). A new patient is predicted by all fold models, with their
standard deviation (docs/protocol.md, section Uncertainty). A patient that every model trained or
validated on, which folds from a file allow, is predicted by all models and labelled ``trained on``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
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
from tcgn_mil.experiments.predict.model import OpenedModel, find_slide_model, open_for_features
from tcgn_mil.experiments.predict.tables import write_prediction
from tcgn_mil.experiments.runs.inputs import begin_again, existing
from tcgn_mil.experiments.runs.predictability import gene_predictability
from tcgn_mil.inference.fold_models import FoldModel, load_fold_models
from tcgn_mil.inference.patients import (
    PatientPrediction,
    predict_patient,
    slides_without_positions,
    without_unplaced_tiles,
)
from tcgn_mil.io.failures import (
    Failure,
    LeftOut,
    describe_left_out,
    record_failures,
    unexpected,
)
from tcgn_mil.io.feature_files import FeatureInfo, find_features, read_feature_info
from tcgn_mil.patient_rows import is_normal
from tcgn_mil.progress import Progress, tell
from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.text import preview
from tcgn_mil.types.features import untrained_labels
from tcgn_mil.types.shards import Shard
from tcgn_mil.types.tile_geometry import check_patch
from tcgn_mil.types.tiles import stain_identity

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
    out_dir, moved = begin_again(out_dir, KIND, config, inputs, keep=frozenset({"work"}))
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


def without_normal_slides(features: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Leave out slides of normal tissue, which would be averaged with the tumour of their patient.

    If all slides are of normal tissue, they are what is asked for, and are kept.

    Returns
    -------
    The feature files of the other slides, and notes on those that were left out.

    Examples
    --------
    >>> slides = {"TCGA-A7-A13E-01Z-00-DX1": Path("a.h5"), "TCGA-A7-A13E-11A-01-TS1": Path("b.h5")}
    >>> kept, notes = without_normal_slides(slides)
    >>> list(kept), notes
    (['TCGA-A7-A13E-01Z-00-DX1'], ['1 left out: TCGA-A7-A13E-11A-01-TS1 (shows normal tissue)'])
    """
    kept = {slide: path for slide, path in features.items() if not is_normal(slide)}
    if not kept:
        return dict(features), []
    normal = [LeftOut(slide, "shows normal tissue") for slide in features if slide not in kept]
    return kept, describe_left_out(normal)


def predict_patients(
    model: OpenedModel,
    features: Mapping[str, Path],
    genes: Sequence[str] = (),
    gene_sets: Sequence[GeneSet] = (),
    *,
    allow_other_size: bool = False,
    then: Callable[[PatientPrediction], None] | None = None,
) -> tuple[dict[str, PatientPrediction], list[Failure]]:
    """Predict the patients of some feature files.

    Parameters
    ----------
    model
        The model, opened for these features.
    features
        Feature file of each slide.
    genes, gene_sets
        Genes and gene sets whose tiles are scored.
    allow_other_size
        Accept tiles of another physical size than those of the model.
    then
        Called with each prediction as soon as it is made.

    Returns
    -------
    Prediction of each patient, and slides that could not be predicted.
    """
    patients, failures = slides_by_patient(
        features, model.models, model.patient_of, allow=allow_other_size
    )
    predictions: dict[str, PatientPrediction] = {}
    bar = Progress(patients.items(), desc="predict", unit="patient")
    for patient, paths in bar:
        try:
            prediction = predict_patient(
                patient, paths, model.models, model.panel, genes, gene_sets, model.reference
            )
        except Exception as error:  # whatever one patient does costs its own rows only
            failures += [unexpected(error, path.stem, "predict") for path in paths]
            bar.failed += 1
            continue
        predictions[patient] = prediction
        if then is not None:
            then(prediction)
    return predictions, failures


def slides_by_patient(
    paths: Mapping[str, Path],
    models: Sequence[FoldModel],
    patient_of: Mapping[str, str] = MappingProxyType({}),
    *,
    allow: bool = False,
) -> tuple[dict[str, list[Path]], list[Failure]]:
    """Group feature files by patient.

    Parameters
    ----------
    paths
        Feature file of each slide.
    models
        Models that read the features.
    patient_of
        Patient of the training slides; of others the feature file names it.
    allow
        Accept tiles of another physical size than those of the models.

    Returns
    -------
    The feature files of each patient, sorted by patient; and the slides with features of another
    encoder, tile size or stain normalisation, as failures.
    """
    patients: dict[str, list[Path]] = {}
    failures: list[Failure] = []
    for slide, path in paths.items():
        try:
            info = read_feature_info(path)
            _check_features(info, models, allow=allow)
        except Exception as error:
            failures.append(unexpected(error, slide, "predict"))
            continue
        patients.setdefault(patient_of.get(slide, info.patient_id), []).append(path)
    return dict(sorted(patients.items())), failures


def _check_features(info: FeatureInfo, models: Sequence[FoldModel], *, allow: bool) -> None:
    """Refuse features that the models do not read."""
    expected = models[0].info
    if (info.encoder, info.width) != (expected.encoder, expected.in_features):
        several = len({fold.info.encoder for fold in models}) > 1
        needed = (
            "an encoder<k>.safetensors of the run"
            if several
            else "the encoder that the model was trained with"
        )
        raise InputError(
            f"has features of {info.encoder} ({info.width} numbers per tile), the model reads those"
            f" of {expected.encoder} ({expected.in_features} numbers per tile)",
            fix=f"encode the slides with {needed}",
        )
    check_patch(expected.patch, info.patch, allow=allow)
    if stain_identity(info.stain) != expected.stain:
        raise InputError(
            f"has the stain normalisation {stain_identity(info.stain)}, the model reads features"
            f" of {expected.stain}",
            fix="tile and encode the slides with the --stain and --stain-reference of the training"
            " cohort",
        )
