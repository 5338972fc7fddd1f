"""Train the slide model of one fold, save it, and predict the fold's test patients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.evaluate import MODEL, UNTRAINED
from tcgn_mil.experiments.slide_level.fold_results import FoldResult
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.experiments.slide_level.inputs.pixels import SlidePixels
from tcgn_mil.experiments.slide_level.inputs.spot_initialisation import SpotInitialisation
from tcgn_mil.experiments.slide_level.inputs.targets import FoldTargets, fold_targets
from tcgn_mil.experiments.slide_level.training.baselines import patient_baselines
from tcgn_mil.experiments.slide_level.training.permuted_refits import (
    Refits,
    network_refits,
    permuted_correlations,
)
from tcgn_mil.experiments.slide_level.training.regression_fold import fit_regression
from tcgn_mil.experiments.slide_level.training.tune_encoder import TunedFold, tune
from tcgn_mil.inference.slides import predict_bag
from tcgn_mil.models.component_regression import ComponentRegression
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.loop import fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.tensorboard import TensorBoardLog
from tcgn_mil.types.folds import Fold


@dataclass(frozen=True)
class SlideLevelStudy:
    """Everything that the folds of a run share.

    Attributes
    ----------
    config
        Config of the run.
    data
        The cohort.
    spots
        Head and panel that the encoder learnt from spots, or None if no encoder was given.
    out_dir
        Folder of the run.
    pixels
        Tiles of the slides, if the encoder is fine-tuned.
    """

    config: FinetuneConfig
    data: CohortData
    spots: SpotInitialisation | None
    out_dir: Path
    pixels: SlidePixels | None = None


def train_fold(study: SlideLevelStudy, fold: Fold) -> FoldResult:
    """Train and save the model of one fold, and predict its test patients.

    The result also has the predictions of the baselines and, if the config asks for them, the
    correlations of refits on permuted labels.
    """
    config, data = study.config, study.data
    targets = fold_targets(config, data, fold)
    fitted = (
        _train_network(study, fold, targets)
        if config.model.kind == "attention"
        else _fit_regression(study, fold, targets)
    )
    _save(study, fold, targets, fitted.model, fitted.encoder)
    predictions = {
        **{name: targets.scaler.unscale(values) for name, values in fitted.standardised.items()},
        **_baselines(study, fold, targets),
    }
    null_r = None
    if config.refits:
        path = study.out_dir / "null" / f"fold{fold.index}.npy"
        null_r = permuted_correlations(config, data, fold, targets.panel, fitted.refits, path)
    truth = targets.values[data.rows_of(fold.test)]
    return FoldResult(fold, targets.panel, truth, predictions, fitted.history, null_r)


class _FittedFold(NamedTuple):
    """Model of a fold, and its standardised predictions of the test patients by name."""

    model: SlideRegressor | ComponentRegression
    standardised: dict[str, NDArray[np.float32]]
    history: list[dict[str, float]]
    encoder: str
    refits: Refits


def _fit_regression(study: SlideLevelStudy, fold: Fold, targets: FoldTargets) -> _FittedFold:
    fitted = fit_regression(study.config.model, study.data, fold, targets)
    return _FittedFold(
        fitted.model, {MODEL: fitted.predicted}, [], study.data.encoder, fitted.refits
    )


def _train_network(study: SlideLevelStudy, fold: Fold, targets: FoldTargets) -> _FittedFold:
    config, data = study.config, study.data
    # Each fold has a seed of its own, so that it gives the same result alone and among others.
    training = dataclasses.replace(config.training, seed=config.seed * 1000 + fold.index)
    bags = _bags_by_part(study, fold, targets.scaled, training.seed)
    statistics = (
        None
        if config.model.input == "ranks"
        else feature_statistics(bags["train"].bags, max_tiles=config.max_tiles)
    )
    model = _new_model(study, fold, targets, statistics, training.seed)
    untrained = _predict(model.eval(), bags["test"])
    history = _fit(study, model, bags, training, fold.index)
    # fit() leaves the model with the weights of the epoch that is kept.
    standardised = {MODEL: _predict(model, bags["test"])}
    encoder = data.encoder
    if study.pixels is not None:
        tuned = tune(
            config, data, study.pixels, fold, model, targets.scaled, study.out_dir, training.seed
        )
        frozen = standardised[MODEL]
        predicted = _predict_tuned(study, fold, tuned, targets.scaled, frozen)
        standardised = {MODEL: predicted, "frozen_encoder": frozen}
        model, encoder = tuned.regressor, tuned.encoder

    def new_model(permuted: FoldTargets, seed: int) -> SlideRegressor:
        return _new_model(study, fold, permuted, statistics, seed)

    refits = network_refits(config, data, fold, bags, new_model, training)
    standardised[UNTRAINED] = untrained
    return _FittedFold(model, standardised, history, encoder, refits)


def _save(
    study: SlideLevelStudy,
    fold: Fold,
    targets: FoldTargets,
    model: SlideRegressor | ComponentRegression,
    encoder: str,
) -> None:
    data = study.data
    info = SlideModelInfo(
        config=model.config,
        in_features=data.width,
        panel=targets.panel,
        scaler=targets.scaler,
        unit=data.training_unit,
        encoder=encoder,
        patch=data.patch,
        stain=data.stain,
        tiling=data.tiling,
        fold=fold,
        provenance={"config": as_plain(study.config)},
    )
    save_slide_model(study.out_dir / f"fold{fold.index}.safetensors", model, info)


def patient_bags(
    config: FinetuneConfig,
    data: CohortData,
    names: Sequence[str],
    scaled: NDArray[np.float32],
    *,
    seed: int,
) -> PatientBags:
    """Make the bags of some patients, one per patient or one per slide, with their targets.

    Parameters
    ----------
    config
        ``several_slides`` decides which of the two.
    data
        The cohort.
    names
        The patients.
    scaled
        (patients, G) standardised targets.
    seed
        Seed of the order of the bags and of the sampled tiles.
    """
    if config.several_slides == "bag":
        return PatientBags(BagDataset(names, data.slides, scaled, seed=seed), np.arange(len(names)))
    # Each slide is a bag of its own, with the profile of its patient as target. `owner` leads back
    # from a bag to its patient.
    files = {
        f"{name}/{number}": [path]
        for name in names
        for number, path in enumerate(data.slides[name])
    }
    owner = np.repeat(np.arange(len(names)), [len(data.slides[name]) for name in names])
    return PatientBags(BagDataset(tuple(files), files, scaled[owner], seed=seed), owner)


def _bags_by_part(
    study: SlideLevelStudy, fold: Fold, scaled: NDArray[np.float32], seed: int
) -> dict[str, PatientBags]:
    return {
        part: patient_bags(
            study.config, study.data, names, scaled[study.data.rows_of(names)], seed=seed
        )
        for part, names in fold.parts().items()
    }


def _new_model(
    study: SlideLevelStudy,
    fold: Fold,
    targets: FoldTargets,
    statistics: FeatureStatistics | None,
    seed: int,
) -> SlideRegressor:
    """Return the model before training, with statistics of tiles, or with ranks if there are none.

    For ranks, the features of a patient are the mean over slides, each of which has one vector.
    """
    spots, config = study.spots, study.config.model
    torch.manual_seed(seed)
    # The additive form starts from the head of the spots, and takes the width of its hidden layer.
    if config.form == "additive" and spots is not None:
        config = dataclasses.replace(config, spot_hidden=spots.hidden)
    model = SlideRegressor(study.data.width, len(targets.panel), config)
    if statistics is None:
        rows = study.data.rows_of(fold.train)
        model.rank_features(torch.from_numpy(study.data.descriptors["mean_features"][rows]))
    else:
        model.standardise(*statistics)
    if config.form == "additive" and spots is not None:
        model.start_from_spots(
            *spots.scaled_for(targets.panel, study.data.rows_of(fold.train), targets.scaled)
        )
    return model


def _fit(
    study: SlideLevelStudy,
    model: SlideRegressor,
    bags: Mapping[str, PatientBags],
    training: TrainingConfig,
    fold: int,
) -> list[dict[str, float]]:
    """Train to the epoch with the best validation score; return loss and score of each epoch."""

    def step(model: Any, batch: BagBatch) -> torch.Tensor:
        return expression_loss(
            model(batch.features, batch.mask).expression, batch.targets, training.loss
        )

    # The score is the squared error whatever the training loss is, so that runs with different
    # losses choose their epoch by the same measure.
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
    """Return (patients, G) standardised predictions from all tiles of each patient."""
    each = np.stack(
        [predict_bag(model, bags.bags.bag(index)).expression for index in range(len(bags.bags))]
    )
    return bags.by_patient(each)


def _predict_tuned(
    study: SlideLevelStudy,
    fold: Fold,
    tuned: TunedFold,
    scaled: NDArray[np.float32],
    frozen: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Predict the test patients from features of the fold's own encoder, if it has one."""
    if tuned.slides is None:
        return frozen
    data = dataclasses.replace(study.data, slides=study.data.slides | tuned.slides)
    scaled = scaled[data.rows_of(fold.test)]
    return _predict(tuned.regressor, patient_bags(study.config, data, fold.test, scaled, seed=0))


def _baselines(
    study: SlideLevelStudy, fold: Fold, targets: FoldTargets
) -> dict[str, NDArray[np.float32]]:
    """Predict the test patients by the training mean, by simple regressions and zero-shot.

    The baselines are fitted on training and validation patients together, because the model has
    used both: early stopping reads the validation patients.
    """
    used = study.data.rows_of([*fold.train, *fold.val])
    test = study.data.rows_of(fold.test)
    descriptors = study.data.descriptors
    predictions = patient_baselines(
        {name: rows[used] for name, rows in descriptors.items()},
        targets.values[used],
        {name: rows[test] for name, rows in descriptors.items()},
    )
    if study.spots is not None:
        predictions["zero_shot"] = study.spots.zero_shot(targets.panel)[test]
    return predictions
