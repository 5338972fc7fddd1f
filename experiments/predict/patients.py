"""Predict the patients of feature files, each from all of its slides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.model import OpenedModel
from tcgn_mil.inference.fold_models import FoldModel
from tcgn_mil.inference.patients import PatientPrediction, predict_patient
from tcgn_mil.io.failures import Failure, LeftOut, describe_left_out, unexpected
from tcgn_mil.io.feature_files import FeatureInfo, read_feature_info
from tcgn_mil.patient_rows import is_normal
from tcgn_mil.progress import Progress
from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.types.tile_geometry import check_patch
from tcgn_mil.types.tiles import stain_identity


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
