"""``tcgn-mil finetune`` and ``slide-cv``: attention over all tiles of a patient's slides, trained to bulk by fold.

One model a fold; each patient is predicted by the model that saw it in neither training nor validation. ``slide-cv`` is
the same with refits on permuted labels, from which p-values come (PROTOCOL, What counts as predictable).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.run_folder import begin_run, finished_summary
from tcgn_mil.experiments.slide_level.cohort import (
    INPUTS,
    CohortData,
    check_same_inputs,
    input_digests,
    load_cohort,
)
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.spot_initialisation import SpotStart, spot_start
from tcgn_mil.experiments.slide_level.train_fold import Study, _run_fold
from tcgn_mil.experiments.slide_level.tune_encoder import tuned_means, with_pixels
from tcgn_mil.experiments.slide_level.write_results import FEW_PATIENTS, write_results
from tcgn_mil.folds import make_folds, read_folds, write_folds
from tcgn_mil.inference.fold_models import TRAINING_SLIDES
from tcgn_mil.inference.out_of_distribution import write_reference
from tcgn_mil.io.atomic import write_csv, write_json
from tcgn_mil.models.aggregators import aggregator_class
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.types.folds import Fold

KIND = "finetune"


def run(
    config: FinetuneConfig, out_dir: str | Path, *, source: TileSource | None = None
) -> dict[str, Any]:
    """Train one model a fold and evaluate out of fold; returns the summary that is also written.

    Writes ``fold<k>.safetensors``, ``folds.csv``, ``genes.csv``, ``predictable_genes.csv``, ``headline.csv``,
    ``out_of_fold.h5ad``, ``dropped.csv``, ``reference.safetensors`` and figures. A finished run is not run again; an
    unfinished one resumes; both only on the inputs that they began on. `source` reads the slides' tiles where the
    encoder is fine-tuned, by default from ``config.slides`` and ``config.tiles``; then each fold has
    ``encoder<k>.safetensors`` too, and features of its test patients by it.

    Raises
    ------
    InputError
        If there are fewer than 10 patients and no folds are given, or what :func:`load_cohort` and
        :func:`fold_targets` refuse.
    """
    aggregator_class(config.model)  # refuses an unknown name before hours of reading
    out_dir = begin_run(out_dir, KIND, config)
    data = load_cohort(config.cohort, config.features, pooled=config.cohorts == "pooled")
    pixels = None
    if config.encoder_train != "none":
        if source is None:
            assert config.slides is not None  # the config refuses to be without
            source = TileSource.from_slides(config.slides, tiles=config.tiles, mpp=config.mpp)
        data, pixels = with_pixels(config, data, source)
    if len(data.patients) < FEW_PATIENTS and config.folds is None:
        raise InputError(
            f"only {len(data.patients)} patients have both expression and features; at least {FEW_PATIENTS} are needed",
            path=config.cohort,
            fix="join more slides (see join_report.csv); or give --folds to train on so few",
        )
    folds = _folds(config, data)
    digests, done = input_digests(config, data, folds), finished_summary(out_dir)
    check_same_inputs(out_dir, digests, finished=done is not None)
    if done is not None:
        return done
    start = _spot_start(
        config, data
    )  # before anything is written: a first try that is refused blocks no second
    write_json(out_dir / INPUTS, digests)
    write_folds(out_dir / "folds.csv", folds)
    write_csv(
        out_dir / TRAINING_SLIDES,
        pd.DataFrame(
            [(path.stem, patient) for patient in data.patients for path in data.slides[patient]],
            columns=["slide_id", "patient_id"],
        ),
    )
    write_csv(out_dir / "dropped.csv", data.dropped)
    study = Study(config, data, start, out_dir, pixels)
    write_reference(out_dir, study.data.descriptors["mean_features"])
    results = [_run_fold(study, fold) for fold in folds]
    if pixels is not None:
        write_reference(out_dir, tuned_means(data, folds, out_dir))
    return write_results(
        config,
        data,
        results,
        out_dir,
        spot_genes=() if study.start is None else study.start.panel.genes,
    )


def _spot_start(config: FinetuneConfig, data: CohortData) -> SpotStart | None:
    if config.encoder is not None:
        return spot_start(config.encoder, data)
    if config.model.form == "additive":
        raise InputError(
            "model.form=additive starts from an encoder's head",
            fix="give --encoder, or use form=pooled",
        )
    return None


def _folds(config: FinetuneConfig, data: CohortData) -> list[Fold]:
    if config.group_by == "site" and not data.sites:
        raise InputError(
            "has no column obs['site']", path=config.cohort, fix="use group_by=patient"
        )
    if config.folds is not None:
        return read_folds(config.folds, ids=data.patients, seed=config.seed)
    groups = data.sites if config.group_by == "site" else data.donors
    return make_folds(
        data.patients, groups, n_folds=config.n_folds, seed=config.seed, cohorts=data.cohorts
    )
