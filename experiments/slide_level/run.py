"""Train one slide model per fold and predict each patient by the model that did not see it.

``tcgn-mil slide-cv`` is ``tcgn-mil finetune`` with refits on permuted labels, from which the
p-values come (docs/protocol.md, section Predictable genes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.config import as_plain
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.inputs import check_same_inputs, write_inputs
from tcgn_mil.experiments.runs.run_folder import begin_run, finished_summary
from tcgn_mil.experiments.slide_level.config import FinetuneConfig, SlideCvConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData, load_cohort
from tcgn_mil.experiments.slide_level.inputs.digests import input_digests
from tcgn_mil.experiments.slide_level.inputs.pixels import SlidePixels, with_pixels
from tcgn_mil.experiments.slide_level.inputs.scores import check_targets, with_targets
from tcgn_mil.experiments.slide_level.inputs.spot_initialisation import (
    SpotInitialisation,
    load_spot_initialisation,
)
from tcgn_mil.experiments.slide_level.inputs.study import SlideLevelStudy
from tcgn_mil.experiments.slide_level.training.train_fold import follow_fold, train_fold
from tcgn_mil.experiments.slide_level.training.tune_encoder import tuned_files
from tcgn_mil.experiments.slide_level.write_results import FEW_PATIENTS, write_results
from tcgn_mil.folds import make_folds, read_folds, write_folds
from tcgn_mil.inference.fold_models import TRAINING_SLIDES
from tcgn_mil.inference.reference_file import read_reference, sample_tiles, write_reference
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.models.aggregators import aggregator_class
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.progress import Progress
from tcgn_mil.settings.slide_model import Kind
from tcgn_mil.text import counted
from tcgn_mil.training.agreement import check_same, from_first, in_all, join_processes
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.processes import Processes

KIND = "finetune"
BY_PATIENT = "by-patient"


def run(config: FinetuneConfig, out_dir: str | Path) -> dict[str, Any]:
    """Train one model per fold and evaluate the out-of-fold predictions.

    The folder gets ``fold<k>.safetensors``, ``folds.csv``, ``genes.csv``,
    ``predictable_genes.csv``, ``headline.csv``, ``out_of_fold.h5ad``, ``dropped.csv``,
    ``reference.safetensors`` and figures. If the encoder is fine-tuned, it also gets
    ``encoder<k>.safetensors`` and the features of each fold's test patients. With
    ``group_by=both``, the folder holds the run with folds by site, and its subfolder
    ``by-patient`` the run with folds by patient.

    A finished run is returned as it is, and an unfinished one continues; both only if its inputs
    are those that it began on.

    Several processes of torchrun share the training of the networks and the refits on permuted
    labels. The first one alone writes, and does all else: it predicts and encodes, fits the
    baselines, and makes intervals, tables and figures. The others wait for it.

    Parameters
    ----------
    config
        Config of ``tcgn-mil finetune``, or of ``slide-cv``.
    out_dir
        Folder to write.

    Returns
    -------
    The summary that is also written to ``summary.json``.

    Raises
    ------
    InputError
        If ``model.pooling`` names no aggregator; if there are fewer than 10 patients and no folds
        are given; if the folder holds another run; if the cohort, the features, the encoder or
        the folds cannot be used; or if the processes of torchrun have different settings or inputs.
    """
    # What can be refused at once is checked before hours of reading.
    aggregator_class(config.model)
    check_targets(config.targets)
    source = _tile_source(config)
    verb = "slide-cv" if isinstance(config, SlideCvConfig) else KIND
    join_processes(config.training, {"verb": verb, **as_plain(config)})
    out_dir = _begin(Path(out_dir), config, verb)
    config, data, pixels = in_all(lambda: _read_inputs(config, source))
    if config.group_by != "both":
        return _run(config, data, pixels, out_dir)
    by_patient = dataclasses.replace(config, group_by="patient")
    if (why := _why_no_folds_by_site(config, data)) is not None:
        return _run(by_patient, data, pixels, out_dir, labels=[why] if why else [])
    folder = _begin(out_dir / BY_PATIENT, by_patient, verb)
    beside = _run(by_patient, data, pixels, folder)
    by_site = dataclasses.replace(config, group_by="site")
    return _run(by_site, data, pixels, out_dir, beside=beside)


def _begin(folder: Path, config: FinetuneConfig, verb: str) -> Path:
    return from_first(lambda: begin_run(folder, KIND, config, verb=verb))


def _why_no_folds_by_site(config: FinetuneConfig, data: CohortData) -> str | None:
    """Return why a cohort cannot be divided by site; None if it can.

    The reason is empty if folds are given, which the user knows.
    """
    if config.folds is not None:
        return ""
    count = len(set(data.sites.values()))
    if count >= config.n_folds:
        return None
    sites = counted(count, "tissue source site") if count else "no tissue source site"
    return (
        f"folds by patient only: the cohort has {sites}, fewer than the {config.n_folds} folds, so"
        " that the result may come in part from differences between sites"
    )


def _run(
    config: FinetuneConfig,
    data: CohortData,
    pixels: SlidePixels | None,
    out_dir: Path,
    *,
    beside: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """Train and evaluate all folds; `beside` is the summary of the run with folds by patient."""
    folds, digests = in_all(lambda: _folds_and_digests(config, data, pixels))
    check_same(digests, "read different inputs", fix="give the same input files to all machines")
    if (done := from_first(lambda: _finished(data, folds, digests, out_dir, pixels))) is not None:
        return done
    # The encoder is read before anything is written: begin_run takes a folder with a config alone
    # for a first attempt that failed, and lets a corrected config use it.
    study = in_all(
        lambda: SlideLevelStudy(config, data, _spot_initialisation(config, data), out_dir, pixels)
    )
    summary: dict[str, Any] = {}
    if Processes.launched().is_first:
        write_inputs(out_dir, digests)
        summary = _train(study, folds, beside=beside, labels=labels)
    else:
        for fold in folds:
            follow_fold(study, fold)
    # The others end when the first one has written everything.
    return from_first(lambda: summary)


def _train(
    study: SlideLevelStudy,
    folds: list[Fold],
    *,
    beside: Mapping[str, Any] | None,
    labels: Sequence[str],
) -> dict[str, Any]:
    """Train all folds in the first process, and write the results."""
    config, data, out_dir = study.config, study.data, study.out_dir
    _write_cohort(study, folds)
    results = [train_fold(study, fold) for fold in folds]
    if study.pixels is not None:
        _write_reference(data, tuned_files(data, folds, out_dir), out_dir)
    spot_genes = () if study.spots is None else study.spots.panel.genes
    return write_results(
        config, data, results, out_dir, spot_genes=spot_genes, beside=beside, labels=labels
    )


def _folds_and_digests(
    config: FinetuneConfig, data: CohortData, pixels: SlidePixels | None
) -> tuple[list[Fold], dict[str, str]]:
    folds = _folds(config, data)
    return folds, input_digests(config, data, folds, pixels)


def _finished(
    data: CohortData,
    folds: list[Fold],
    digests: Mapping[str, str],
    out_dir: Path,
    pixels: SlidePixels | None,
) -> dict[str, Any] | None:
    """Return the summary of a finished run on the same inputs, or None if it has not finished."""
    done = finished_summary(out_dir)
    check_same_inputs(out_dir, digests, finished=done is not None)
    if done is not None:
        _renew_reference(data, folds, out_dir, tuned=pixels is not None)
    return done


def _with_model(config: FinetuneConfig, data: CohortData) -> FinetuneConfig:
    """Replace what is ``auto`` in the config of the model by what it means for a cohort."""
    model = config.model
    needs_network = model.form == "additive" or config.encoder_train != "none"
    if model.kind == "auto":
        kind: Kind = "kernel" if data.single_vectors and not needs_network else "attention"
        model = dataclasses.replace(model, kind=kind)
    if model.input == "auto":
        ranks = data.single_vectors and not needs_network
        model = dataclasses.replace(model, input="ranks" if ranks else "standardise")
    if model.input == "ranks" and not data.single_vectors and model.kind == "attention":
        raise InputError(
            "model.input=ranks is for features with one vector per slide, and these have tiles",
            path=config.features,
            fix="set model.input=standardise, or remove the key",
        )
    return dataclasses.replace(config, model=model)


def _tile_source(config: FinetuneConfig) -> TileSource | None:
    """Collect the slides whose tiles are read if the encoder is fine-tuned."""
    if config.encoder_train == "none":
        return None
    assert config.slides is not None  # FinetuneConfig refuses encoder_train without slides
    return TileSource.from_slides(
        config.slides,
        tiles=config.tiles,
        mpp=config.mpp,
        override_mpp=config.override_mpp,
        recursive=config.recursive,
    )


def _read_inputs(
    config: FinetuneConfig, source: TileSource | None
) -> tuple[FinetuneConfig, CohortData, SlidePixels | None]:
    """Read the cohort and, if the encoder is fine-tuned, find the tiles of its slides.

    What is ``auto`` in the returned config is replaced by what it means for the cohort.
    """
    data = with_targets(
        config, load_cohort(config.cohort, config.features, pooled=config.cohorts == "pooled")
    )
    pixels = None
    if source is not None:
        data, pixels = with_pixels(config, data, source)
    if len(data.patients) < FEW_PATIENTS and config.folds is None:
        raise InputError(
            f"only {len(data.patients)} patients have both expression and features; at least"
            f" {FEW_PATIENTS} are needed",
            path=config.cohort,
            fix="join more slides (see join_report.csv), or give --folds to train on so few",
        )
    return _with_model(config, data), data, pixels


def _folds(config: FinetuneConfig, data: CohortData) -> list[Fold]:
    if config.group_by == "site" and not data.sites:
        raise InputError(
            "has no column 'site' in obs, so that sites cannot be kept together",
            path=config.cohort,
            fix="set group_by=patient",
        )
    if config.folds is not None:
        return read_folds(config.folds, ids=data.patients, seed=config.seed)
    groups = data.sites if config.group_by == "site" else data.donors
    return make_folds(
        data.patients, groups, n_folds=config.n_folds, seed=config.seed, cohorts=data.cohorts
    )


def _spot_initialisation(config: FinetuneConfig, data: CohortData) -> SpotInitialisation | None:
    spots = None
    if config.encoder is not None:
        spots = load_spot_initialisation(config.encoder, config.encoder_options, data)
    if spots is None and config.model.form == "additive":
        given = "no encoder is given" if config.encoder is None else "this encoder has none"
        raise InputError(
            f"model.form=additive starts from the head of an encoder, and {given}",
            fix="give --encoder a checkpoint of tcgn-mil pretrain, or set model.form=pooled",
        )
    return spots


def _write_cohort(study: SlideLevelStudy, folds: list[Fold]) -> None:
    """Write the folds, the slides that are used, what was dropped, and the reference features."""
    data, out_dir = study.data, study.out_dir
    write_folds(out_dir / "folds.csv", folds)
    write_csv(
        out_dir / TRAINING_SLIDES,
        pd.DataFrame(
            [(path.stem, patient) for patient in data.patients for path in data.slides[patient]],
            columns=["slide_id", "patient_id"],
        ),
    )
    write_csv(out_dir / "dropped.csv", data.dropped)
    _write_reference(data, data.slides, out_dir)


def _write_reference(data: CohortData, files: Mapping[str, Sequence[Path]], out_dir: Path) -> None:
    """Describe the tiles of the patients, to which those of new patients will be compared."""
    samples = sample_tiles(files, width=data.width)
    write_reference(
        out_dir, Progress(samples, desc="reference", unit="patient", leave=False, total=len(files))
    )


def _renew_reference(data: CohortData, folds: list[Fold], out_dir: Path, *, tuned: bool) -> None:
    """Make the reference of a finished run anew if it is missing, damaged or of an old version."""
    try:
        read_reference(out_dir)
    except InputError:
        files = tuned_files(data, folds, out_dir) if tuned else data.slides
        _write_reference(data, files, out_dir)
