"""``tcgn-mil finetune`` and ``slide-cv``: attention over all tiles of a patient's slides, trained to bulk by fold.

One model a fold; each patient is predicted by the model that saw it in neither training nor validation. ``slide-cv`` is
the same with refits on permuted labels, from which p-values come (PROTOCOL, What counts as predictable).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tcgn_mil.batches.feature_bags import BagBatch, FeatureStatistics, feature_statistics
from tcgn_mil.checkpoints import SlideModelInfo, save_slide_model
from tcgn_mil.config import as_plain
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.run_folder import begin_run, finished_summary
from tcgn_mil.experiments.slide_level.cohort import CohortData, load_cohort, rows_of
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.evaluate import MODEL, patient_baselines
from tcgn_mil.experiments.slide_level.slide_inputs import INPUTS, check_same_inputs, input_digests
from tcgn_mil.experiments.slide_level.spot_initialisation import SpotStart, spot_start
from tcgn_mil.experiments.slide_level.targets import FoldTargets, fold_targets, targets_of
from tcgn_mil.experiments.slide_level.train_fold import PatientBags, patient_bags
from tcgn_mil.experiments.slide_level.tune_encoder import (
    PixelSource,
    SlidePixels,
    Tuned,
    tune,
    tuned_means,
    with_pixels,
)
from tcgn_mil.experiments.slide_level.write_results import FEW_PATIENTS, FoldResult, write_results
from tcgn_mil.folds import make_folds, read_folds, write_folds
from tcgn_mil.inference.fold_models import TRAINING_SLIDES
from tcgn_mil.inference.out_of_distribution import write_reference
from tcgn_mil.inference.tile_encoder import predict_bag
from tcgn_mil.io.atomic import write_json
from tcgn_mil.io.result_tables import read_array, write_array, write_csv
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.statistics.out_of_fold import fold_correlations
from tcgn_mil.training.loop import TrainingConfig, fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.permutation_null import NullBags, Refit, permutations, refit_predictions
from tcgn_mil.training.tensorboard import TensorBoardLog
from tcgn_mil.types.tiles import Fold

KIND = "finetune"


def run(
    config: FinetuneConfig, out_dir: str | Path, *, source: PixelSource | None = None
) -> dict[str, Any]:
    """Train one model a fold and evaluate out of fold; returns the summary that is also written.

    Writes ``fold<k>.safetensors``, ``folds.csv``, ``genes.csv``, ``predictable_genes.csv``, ``headline.csv``,
    ``out_of_fold.h5ad``, ``dropped.csv``, ``reference.safetensors`` and figures. A finished run is not run again; an
    unfinished one resumes; both only on the inputs that they began on. `source` reads the slides' tiles, where the
    encoder is fine-tuned; then each fold has ``encoder<k>.safetensors`` too, and features of its test patients by it.

    Raises
    ------
    InputError
        If there are fewer than 10 patients and no folds are given, or what :func:`load_cohort` and
        :func:`fold_targets` refuse.
    """
    out_dir = begin_run(out_dir, KIND, config)
    data = load_cohort(config.cohort, config.features, pooled=config.cohorts == "pooled")
    pixels = None
    if config.encoder_train != "none":
        if source is None:
            raise ValueError("fine-tuning an encoder needs a source of pixels")
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


@dataclass(frozen=True)
class Study:
    """What all folds share."""

    config: FinetuneConfig
    data: CohortData
    start: SpotStart | None
    out_dir: Path
    pixels: SlidePixels | None = None


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
        return read_folds(config.folds, known=data.patients, seed=config.seed)
    groups = data.sites if config.group_by == "site" else data.donors
    return make_folds(
        data.patients, groups, n_folds=config.n_folds, seed=config.seed, cohorts=data.cohorts
    )


def _run_fold(study: Study, fold: Fold) -> FoldResult:
    """Train, save and test the model of one fold, beside its baselines and its refits on permuted labels."""
    config, data = study.config, study.data
    targets = fold_targets(config, data, fold)
    training = dataclasses.replace(config.training, seed=config.seed * 1000 + fold.index)
    bags = _bags(study, fold, targets.scaled, training.seed)
    statistics = feature_statistics(bags["train"].bags, max_tiles=config.max_tiles)
    model = _new_model(study, fold, targets, statistics, training.seed)
    untrained = _predict(model.eval(), bags["test"])
    history = _fit(study, model, bags, training, fold.index)
    frozen = _predict(model, bags["test"])
    predicted, identity, extra = frozen, data.encoder, {}
    if study.pixels is not None:
        tuned = tune(
            config,
            data,
            study.pixels,
            fold,
            model,
            targets.scaled,
            study.out_dir,
            seed=training.seed,
        )
        extra = {"frozen_encoder": targets.scaler.unscale(frozen)}
        model, identity = tuned.regressor, tuned.identity
        predicted = _predict_tuned(study, fold, tuned, targets.scaled, frozen)
    info = SlideModelInfo(
        config=model.config,
        in_features=data.width,
        panel=targets.panel,
        scaler=targets.scaler,
        unit=data.training_unit,
        encoder=identity,
        patch=data.patch,
        stain=data.stain,
        tiling=data.tiling,
        fold=fold,
        provenance={"config": as_plain(config)},
    )
    save_slide_model(study.out_dir / f"fold{fold.index}.safetensors", model, info)
    test = rows_of(data, fold.test)
    predictions = {
        MODEL: targets.scaler.unscale(predicted),
        **extra,
        **_baselines(study, fold, targets),
    }
    predictions["untrained"] = targets.scaler.unscale(untrained)
    null_r = _null(study, fold, targets, bags, statistics, training)
    return FoldResult(fold, targets.panel, targets.values[test], predictions, history, null_r)


def _predict_tuned(
    study: Study, fold: Fold, tuned: Tuned, scaled: NDArray[np.float32], frozen: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(test patients, G) from features by the fold's own encoder."""
    if tuned.slides is None:
        return frozen
    data = dataclasses.replace(study.data, slides=study.data.slides | tuned.slides)
    return _predict(
        tuned.regressor,
        patient_bags(study.config, data, fold.test, scaled[rows_of(data, fold.test)], seed=0),
    )


def _bags(
    study: Study, fold: Fold, scaled: NDArray[np.float32], seed: int
) -> dict[str, PatientBags]:
    return {
        part: patient_bags(
            study.config, study.data, names, scaled[rows_of(study.data, names)], seed=seed
        )
        for part, names in fold.parts().items()
    }


def _new_model(
    study: Study, fold: Fold, targets: FoldTargets, statistics: FeatureStatistics, seed: int
) -> SlideRegressor:
    """The model before training."""
    start, config = study.start, study.config.model
    torch.manual_seed(seed)
    if config.form == "additive" and start is not None:
        config = dataclasses.replace(config, spot_hidden=start.hidden)
    model = SlideRegressor(study.data.width, len(targets.panel), config)
    model.standardise(*statistics)
    if config.form == "additive" and start is not None:
        model.start_from_spots(
            *start.scaled_for(targets.panel, rows_of(study.data, fold.train), targets.scaled)
        )
    return model


def _fit(
    study: Study,
    model: SlideRegressor,
    bags: Mapping[str, PatientBags],
    training: TrainingConfig,
    fold: int,
) -> list[dict[str, float]]:
    """Train to the best validation epoch; returns loss and score by epoch."""

    def step(model: Any, batch: BagBatch) -> torch.Tensor:
        return expression_loss(
            model(batch.features, batch.mask).expression, batch.targets, training.loss
        )

    def score(model: Any) -> float:
        targets = bags["val"].by_patient(bags["val"].bags.targets)
        return -float(np.nanmean(np.square(_predict(model, bags["val"]) - targets)))

    with TensorBoardLog(study.out_dir / "tensorboard" / f"fold{fold}") as log:
        history = fit(
            model,
            step=step,
            config=training,
            description=f"fold {fold}",
            validate=score,
            on_epoch=log,
            epoch_batches=lambda epoch: bags["train"].bags.epoch(
                epoch, batch_size=training.batch_size, max_tiles=study.config.max_tiles
            ),
            state_path=study.out_dir / "state" / f"fold{fold}.safetensors",
        )
    return history.epochs


def _predict(model: SlideRegressor, bags: PatientBags) -> NDArray[np.float32]:
    """(patients, G) standardised, from all tiles of each patient."""
    each = np.stack(
        [predict_bag(model, bags.bags.bag(index)).expression for index in range(len(bags.bags))]
    )
    return bags.by_patient(each)


def _baselines(study: Study, fold: Fold, targets: FoldTargets) -> dict[str, NDArray[np.float32]]:
    """Training mean, ridge on each patient descriptor there is, and zero-shot, for the fold's test patients."""
    known = rows_of(
        study.data, [*fold.train, *fold.val]
    )  # what the model saw, early stopping included
    test = rows_of(study.data, fold.test)
    found = patient_baselines(
        {name: rows[known] for name, rows in study.data.descriptors.items()},
        targets.values[known],
        {name: rows[test] for name, rows in study.data.descriptors.items()},
    )
    if study.start is not None:
        found["zero_shot"] = study.start.zero_shot(targets.panel)[test]
    return found


def _null(
    study: Study,
    fold: Fold,
    targets: FoldTargets,
    bags: Mapping[str, PatientBags],
    statistics: FeatureStatistics,
    training: TrainingConfig,
) -> NDArray[np.float32] | None:
    """(2, R, C, G_fold) r of the fold's test patients by cohort in refits on permuted labels, and over how many."""
    config, data = study.config, study.data
    if not config.refits:
        return None
    path = study.out_dir / "null" / f"fold{fold.index}.npy"
    if path.is_file():
        return read_array(path)
    columns = targets.panel.index_in(data.genes)
    site_of = data.sites if config.group_by == "site" else {}
    strata = {name: (site_of.get(name, ""), data.cohorts.get(name, "")) for name in data.patients}
    orders = permutations(data.patients, data.donors, strata, count=config.refits, seed=config.seed)
    train, val = rows_of(data, fold.train)[bags["train"].owner], rows_of(data, fold.val)
    test, cohort_of = rows_of(data, fold.test), data.cohort_of(fold.test)
    truth: dict[int, NDArray[np.float32]] = {}

    def start(number: int) -> Refit:
        permuted = targets_of(data, fold, columns, data.values[orders[number]])
        truth[number], scaled = permuted.values[test], permuted.scaled
        model = _new_model(study, fold, permuted, statistics, training.seed * 1000 + number)
        return Refit(model, scaled[train], scaled[val])

    predicted = refit_predictions(
        start,
        config.refits,
        NullBags(**bags),
        training,
        max_tiles=config.max_tiles,
        description=f"fold {fold.index}, refits",
    )
    found = [
        np.stack(fold_correlations(truth.pop(number), guess, cohort_of))
        for number, guess in enumerate(predicted)
    ]
    write_array(path, np.stack(found, axis=1).astype(np.float32))
    return read_array(path)
