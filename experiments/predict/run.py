"""``tcgn-mil predict``: bulk expression of a cohort from stored features, with maps of where it comes from.

A patient that the models were cross-validated on is predicted by the one model that did not see it (sd is NaN); a new
patient by all of them, with the sd over models (PROTOCOL, Uncertainty). A patient that was only trained or validated
on, as happens with folds from a file, is predicted by all models too and labelled ``trained on``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.maps import mapped_genes, mapped_signatures, write_maps
from tcgn_mil.experiments.predict.tables import write_prediction
from tcgn_mil.experiments.runs.run_folder import begin_run, read_run
from tcgn_mil.inference.fold_models import (
    FoldModel,
    load_fold_models,
    models_of,
    training_patients,
    union_panel,
)
from tcgn_mil.inference.patients import (
    PatientPrediction,
    on_their_slides,
    predict_patient,
    unplaced,
)
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.io.feature_files import find_features, read_feature_info
from tcgn_mil.text import preview
from tcgn_mil.types.tile_geometry import check_patch
from tcgn_mil.types.tiles import stain_identity

KIND = "predict"


def run(
    config: PredictConfig,
    out_dir: str | Path,
    *,
    unmade: Sequence[Failure] = (),
    notes: Sequence[str] = (),
) -> tuple[dict[str, Any], list[Failure]]:
    """Predict every patient with features; returns the summary and the slides that failed, those `unmade` before too.

    Writes ``predicted.h5ad`` (patients x genes in the training unit, layers sd, low and high, obs ood_score),
    ``predicted.csv`` (or ``.parquet``), ``failures.csv`` and the maps of ``slide_maps``. Runs again from the start: it
    takes seconds a patient. `notes` join the summary's. Of a run with fine-tuned encoders, the models that read these
    features speak.
    """
    read_run(config.model, kind="finetune")
    features = find_features(config.features)
    models = _models_for(features, load_fold_models(config.model))
    panel = union_panel(models)
    mapped = mapped_genes(config, panel)
    signatures = mapped_signatures(config, mapped, models)
    out_dir = begin_run(out_dir, KIND, config)
    patients, failures = _group_slides(
        features, models, training_patients(config.model), allow=config.allow_other_size
    )
    failures = [*unmade, *failures]
    rows: dict[str, PatientPrediction] = {}
    for patient, paths in tqdm(patients.items(), desc="predict", unit="patient"):
        try:
            rows[patient] = predict_patient(patient, paths, models, panel, mapped, signatures.kept)
        except InputError as error:
            failures += [
                Failure(path.stem, "predict", error.reason, error.fix or "") for path in paths
            ]
            continue
        if config.maps:
            names = tuple(one.name for one in signatures.kept)
            try:
                write_maps(
                    on_their_slides(rows[patient]),
                    mapped,
                    names,
                    config.thumbnails,
                    out_dir / "maps",
                )
            except (InputError, OSError) as error:  # a thumbnail, say; the prediction stands
                reason = f"predicted, but no map: {error}"
                failures += [
                    Failure(path.stem, "map", reason, "give the folder of tcgn-mil tile")
                    for path in paths
                ]
    write_failures(out_dir, failures)
    if config.maps and (lost := unplaced(rows.values())):
        reason = "their feature files do not say where tiles lie on the slide"
        tqdm.write(f"no maps of {preview(lost)}: {reason}", file=sys.stderr)
    if not rows:
        raise InputError(
            f"no slide could be predicted: {failures[0].reason}", fix=failures[0].likely_fix
        )
    return write_prediction(config, models, panel, rows, signatures, out_dir, notes=notes), failures


def _models_for(features: Mapping[str, Path], models: Sequence[FoldModel]) -> list[FoldModel]:
    """The models that read the features of the first file that can be read."""
    for path in features.values():
        with contextlib.suppress(InputError):
            return models_of(read_feature_info(path).encoder, models)
    return list(models)


def _group_slides(
    paths: Mapping[str, Path],
    models: Sequence[FoldModel],
    known: Mapping[str, str] = MappingProxyType({}),
    *,
    allow: bool = False,
) -> tuple[dict[str, list[Path]], list[Failure]]:
    """Patient -> feature files; files of another encoder, tile size (but if `allow`) or stain are failures."""
    expected = models[0].info
    own = len({fold.info.encoder for fold in models}) > 1
    patients: dict[str, list[Path]] = {}
    failures: list[Failure] = []
    for slide, path in paths.items():
        try:
            info = read_feature_info(path)
            if (info.encoder, info.width) != (expected.encoder, expected.in_features):
                raise InputError(
                    f"features of {info.encoder} ({info.width} wide), the model reads those of {expected.encoder}"
                    f" ({expected.in_features} wide)",
                    fix="encode the slides with "
                    + (
                        "an encoder<k>.safetensors of the run"
                        if own
                        else "the encoder that the model was trained on"
                    ),
                )
            check_patch(expected.patch, info.patch, allow=allow)
            if stain_identity(info.stain) != expected.stain:
                raise InputError(
                    f"stain normalisation {stain_identity(info.stain)}, the model reads features of {expected.stain}",
                    fix="tile and encode the slides with the --stain and --stain-reference of the training cohort",
                )
        except InputError as error:
            failures.append(Failure(slide, "predict", error.reason, error.fix or ""))
            continue
        patients.setdefault(known.get(slide, info.patient_id), []).append(path)
    return dict(sorted(patients.items())), failures
