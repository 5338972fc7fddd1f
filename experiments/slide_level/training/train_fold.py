"""Train the slide model of one fold, save it, and predict the fold's test patients."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.checkpoints import SlideModelInfo, save_slide_model
from tcgn_mil.config import as_plain
from tcgn_mil.experiments.slide_level.evaluate import MODEL, UNTRAINED
from tcgn_mil.experiments.slide_level.fold_results import FoldResult
from tcgn_mil.experiments.slide_level.inputs.study import SlideLevelStudy
from tcgn_mil.experiments.slide_level.inputs.targets import FoldTargets, fold_targets
from tcgn_mil.experiments.slide_level.training.baselines import patient_baselines
from tcgn_mil.experiments.slide_level.training.network_fold import (
    NetworkFold,
    fit_network,
    new_model,
    patient_bags,
    predict_patients,
    start_network,
)
from tcgn_mil.experiments.slide_level.training.permuted_refits import (
    Refits,
    network_refits,
    permuted_correlations,
)
from tcgn_mil.experiments.slide_level.training.regression_fold import fit_regression
from tcgn_mil.experiments.slide_level.training.tune_encoder import TunedFold, follow_tuning, tune
from tcgn_mil.models.component_regression import ComponentRegression
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.types.folds import Fold


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
    null_r = _null_correlations(study, fold, targets, fitted.refits) if config.refits else None
    truth = targets.values[data.rows_of(fold.test)]
    return FoldResult(fold, targets.panel, truth, predictions, fitted.history, null_r)


def follow_fold(study: SlideLevelStudy, fold: Fold) -> None:
    """Help the first process of torchrun with one fold, and write nothing.

    The processes share the training of the networks and the refits. The first one alone saves the
    model, predicts, and fits the baselines.
    """
    targets = fold_targets(study.config, study.data, fold)
    if study.config.model.kind == "attention":
        network = start_network(study, fold, targets)
        fit_network(study, fold, network)
        if study.pixels is not None:
            seed = network.training.seed
            follow_tuning(study, study.pixels, fold, network.model, targets.scaled, seed)
        refits = _refits_of(study, fold, network)
    else:
        refits = fit_regression(study.config.model, study.data, fold, targets).refits
    if study.config.refits:
        _null_correlations(study, fold, targets, refits)


def _null_correlations(
    study: SlideLevelStudy, fold: Fold, targets: FoldTargets, refits: Refits
) -> NDArray[np.float32]:
    path = study.out_dir / "null" / f"fold{fold.index}.npy"
    return permuted_correlations(study.config, study.data, fold, targets.panel, refits, path)


def _refits_of(study: SlideLevelStudy, fold: Fold, network: NetworkFold) -> Refits:
    def permuted_model(permuted: FoldTargets, seed: int) -> SlideRegressor:
        return new_model(study, fold, permuted, network.statistics, seed)

    return network_refits(
        study.config, study.data, fold, network.bags, permuted_model, network.training
    )


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
    network = start_network(study, fold, targets)
    model, bags = network.model, network.bags
    untrained = predict_patients(model.eval(), bags["test"])
    history = fit_network(study, fold, network)
    # fit_network() leaves the model with the weights of the epoch that is kept.
    standardised = {MODEL: predict_patients(model, bags["test"])}
    encoder = study.data.encoder
    if study.pixels is not None:
        tuned = tune(study, study.pixels, fold, model, targets.scaled, network.training.seed)
        frozen = standardised[MODEL]
        predicted = _predict_tuned(study, fold, tuned, targets.scaled, frozen)
        standardised = {MODEL: predicted, "frozen_encoder": frozen}
        model, encoder = tuned.regressor, tuned.encoder
    standardised[UNTRAINED] = untrained
    return _FittedFold(model, standardised, history, encoder, _refits_of(study, fold, network))


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
    return predict_patients(
        tuned.regressor, patient_bags(study.config, data, fold.test, scaled, seed=0)
    )


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
