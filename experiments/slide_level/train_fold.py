"""The bags of a fold's patients: all slides of one together, or each by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcgn_mil.batches.feature_bags import (
    BagBatch,
    BagDataset,
    FeatureStatistics,
    feature_statistics,
)
from tcgn_mil.batches.patient_bags import PatientBags
from tcgn_mil.checkpoints import SlideModelInfo, save_slide_model
from tcgn_mil.config import as_plain
from tcgn_mil.experiments.slide_level.cohort import CohortData, rows_of
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.evaluate import MODEL, patient_baselines
from tcgn_mil.experiments.slide_level.spot_initialisation import SpotStart
from tcgn_mil.experiments.slide_level.targets import FoldTargets, fold_targets, targets_of
from tcgn_mil.experiments.slide_level.tune_encoder import SlidePixels, Tuned, tune
from tcgn_mil.experiments.slide_level.write_results import FoldResult
from tcgn_mil.inference.slides import predict_bag
from tcgn_mil.io.atomic import read_array, write_array
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.statistics.out_of_fold import fold_correlations
from tcgn_mil.training.loop import fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.permutation_null import NullBags, Refit, permutations, refit_predictions
from tcgn_mil.training.tensorboard import TensorBoardLog
from tcgn_mil.types.folds import Fold


def patient_bags(
    config: FinetuneConfig,
    data: CohortData,
    names: Sequence[str],
    scaled: NDArray[np.float32],
    *,
    seed: int,
) -> PatientBags:
    """Bags of patients with their standardised targets.

    Parameters
    ----------
    scaled
        (patients asked for, G).
    seed
        Of order and tile samples.
    """
    if config.several_slides == "bag":
        return PatientBags(BagDataset(names, data.slides, scaled, seed=seed), np.arange(len(names)))
    files = {
        f"{name}/{number}": [path]
        for name in names
        for number, path in enumerate(data.slides[name])
    }
    owner = np.repeat(np.arange(len(names)), [len(data.slides[name]) for name in names])
    return PatientBags(BagDataset(tuple(files), files, scaled[owner], seed=seed), owner)


@dataclass(frozen=True)
class Study:
    """What all folds share."""

    config: FinetuneConfig
    data: CohortData
    start: SpotStart | None
    out_dir: Path
    pixels: SlidePixels | None = None


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
