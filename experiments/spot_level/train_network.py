"""Train one network on a fold: end to end, its head alone, or a ridge regression on its features.

A finished network is an encoder checkpoint with its history beside it, and is not trained again. A
network whose training was interrupted continues from its saved state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from tcgn_mil.baselines import ridge_weights
from tcgn_mil.batches.spots import SpotBatches
from tcgn_mil.checkpoints import EncoderInfo, load_encoder, save_encoder
from tcgn_mil.config import as_plain
from tcgn_mil.devices import resolve_device
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.spot_level.inputs.network import Network, start_network
from tcgn_mil.experiments.spot_level.inputs.study import SpotStudy
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.inference.spots import predict_spots
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.models.encoders import StartedEncoder
from tcgn_mil.models.heads import BeforeLastLayer, HeadOnly, head_of, set_last_layer
from tcgn_mil.models.lora import add_adapters, merge_adapters
from tcgn_mil.models.network_input import to_network_input
from tcgn_mil.settings.model_names import TIMM_PREFIX
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.statistics.sequencing_depth import DETECTION_FLOOR, depth_adjusted_pearson
from tcgn_mil.training.agreement import check_same, from_first
from tcgn_mil.training.loop import History, fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.tensorboard import TensorBoardLog
from tcgn_mil.types.processes import Processes

CHECKPOINT, STATE, HISTORY = "encoder.safetensors", "state.safetensors", "history.csv"
# History of a network that was not trained by gradient descent.
_EMPTY_HISTORY = pd.DataFrame(columns=["loss", "score"], dtype=float)


class TrainedNetwork(NamedTuple):
    """A trained network.

    Attributes
    ----------
    model
        The network in eval mode.
    info
        Genes, scaler, patch size and provenance.
    epochs
        Loss and score of each epoch; empty for a network that was not trained.
    """

    model: nn.Module
    info: EncoderInfo
    epochs: pd.DataFrame


def train_network(
    study: SpotStudy, network: Network, folder: Path, *, seed: int, description: str = ""
) -> TrainedNetwork:
    """Train a network on ``study.train``, or load the finished one from its folder.

    Parameters
    ----------
    study
        The fold.
    network
        Architecture and initialisation.
    folder
        Folder of the network.
    seed
        Seed for initialisation, order of the batches and augmentation.
    description
        Words for the progress bar. Of several processes of torchrun the first alone writes.
    """
    if from_first((folder / CHECKPOINT).is_file):
        model, info = load_encoder(folder / CHECKPOINT)
        _check_same_study(study, info, seed, folder)
        model.to(resolve_device(study.config.training.accelerator))
        return TrainedNetwork(model, info, _history(folder))
    # Weights are drawn on the CPU and moved then, so that a seed gives one network on every device.
    torch.manual_seed(seed)
    started = start_network(network, study)
    model, info = started.model, encoder_info(started, study, seed=seed)
    if Processes.launched().count == 1:  # else training chooses the device of each process
        model.to(resolve_device(study.config.training.accelerator))
    if network.train == "none":
        fit_ridge_head(study, model, info)
    else:
        history = _fit(study, network, model, info, folder, seed, description or network.model)
        write_csv(folder / HISTORY, pd.DataFrame(history.epochs))
    save_encoder(folder / CHECKPOINT, model.eval(), info)
    # The state holds the optimizer too, and is several times as large as the network.
    (folder / STATE).unlink(missing_ok=True)
    # The history as it was written, rounded, is what a run that is continued reads.
    return TrainedNetwork(model, info, _history(folder))


def follow_network(study: SpotStudy, network: Network, folder: Path, *, seed: int) -> None:
    """Help the first process of torchrun to train a network, and write nothing.

    The parameters are those of :func:`train_network`, which the first process calls meanwhile. It
    also tells whether the network is finished. A ridge regression is fitted by it alone.
    """
    if from_first((folder / CHECKPOINT).is_file) or network.train == "none":
        return
    torch.manual_seed(seed)
    started = start_network(network, study)
    info = encoder_info(started, study, seed=seed)
    _fit(study, network, started.model, info, folder, seed, network.model)


def _history(folder: Path) -> pd.DataFrame:
    if (path := folder / HISTORY).is_file():
        return read_own_csv(path, what="a training history", fix="remove the file")
    return _EMPTY_HISTORY


def _check_same_study(study: SpotStudy, info: EncoderInfo, seed: int, folder: Path) -> None:
    """Check that a finished network was trained on these sections, spots and genes.

    The folder may hold a network from before the input files were changed.
    """
    # Panel and scaler depend on the counts, so they also reveal files that were made again.
    made = info.provenance
    differing = [
        what
        for what, same in {
            "training sections": made.get("trained_on") == list(study.train),
            "validation sections": made.get("validated_on") == list(study.val),
            "seed": made.get("seed") == seed,
            "genes": info.head_panel.hash == study.panel.hash,
            "training values": np.allclose(
                info.head_scaler.mean, study.scaler.mean, rtol=1e-4, atol=1e-5
            )
            if info.head_panel.hash == study.panel.hash
            else True,
        }.items()
        if not same
    ]
    if differing:
        raise InputError(
            f"holds a network of other {', '.join(differing)} than those of this run",
            path=folder,
            fix="choose another --out folder: the spots, the folds or the gene list changed since",
        )


def encoder_info(started: StartedEncoder, study: SpotStudy, *, seed: int) -> EncoderInfo:
    """Return the description that is saved with the weights of a network."""
    provenance = {
        "config": as_plain(study.config),
        "validation": study.split.validation,
        "seed": seed,
        "trained_on": list(study.train),
        "validated_on": list(study.val),
        "started_from": dict(started.record),
    }
    return EncoderInfo(
        model=started.name.removeprefix(TIMM_PREFIX),
        panel=study.panel,
        scaler=study.scaler,
        patch=study.patch,
        normalisation=study.config.normalisation,
        input_spec=started.input_spec,
        architecture=started.architecture,
        provenance=provenance,
    )


def predict_section(
    model: nn.Module, info: EncoderInfo, patches: NDArray[np.uint8], config: SpotConfig
) -> NDArray[np.float32]:
    """Return standardised predictions (S, G), averaged over ``config.views`` views of a patch."""
    return predict_spots(
        model,
        patches,
        batch_size=config.training.batch_size,
        input_spec=info.input_spec,
        views=config.views,
    )


def _fit(
    study: SpotStudy,
    network: Network,
    model: nn.Module,
    info: EncoderInfo,
    folder: Path,
    seed: int,
    description: str,
) -> History:
    """Train by gradient descent; the model ends with the weights that are kept."""
    config = study.config
    training = _training_config(study, seed)
    values = study.training_values(study.train)
    check_same(
        {
            "training sections": list(study.train),
            "validation sections": list(study.val),
            "genes": study.panel.hash,
            "training values": hashlib.sha256(values.tobytes()).hexdigest(),
        },
        "read different inputs",
        fix="give the same input files to all machines",
    )
    batches = SpotBatches(
        study.patches(study.train),
        values,
        batch_size=training.batch_size,
        seed=seed,
        augment=config.augment,
    )

    def step(model: Any, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        patches, targets = batch
        images = to_network_input(patches, info.input_spec)
        return expression_loss(model(images), targets, training.loss)

    log = TensorBoardLog(folder / "tensorboard")
    # HeadOnly freezes all that is below the head, its normalisation statistics included.
    trained = HeadOnly(model) if network.train == "head" else model
    if network.train == "lora":
        add_adapters(model, config.lora)
        head_of(model).requires_grad_(True)
    with log:
        history = fit(
            trained,
            step=step,
            epoch_batches=batches.epoch,
            validate=_validation(study, info),
            config=training,
            state_path=folder / STATE,
            description=description,
            on_epoch=log,
        )
    if network.train == "lora":
        merge_adapters(model)
    return history


def _training_config(study: SpotStudy, seed: int) -> TrainingConfig:
    """Return the settings of training with this seed.

    Without validation sections nothing selects an epoch, so all are trained and the last is kept.
    """
    # Members of an ensemble differ in their seed only.
    training = replace(study.config.training, seed=seed)
    return training if study.val else replace(training, keep="last")


def _validation(study: SpotStudy, info: EncoderInfo) -> Callable[[Any], float] | None:
    """Return a function that scores a model on the validation sections, or None without any.

    The score is the mean depth-adjusted r over genes seen in at least 20 % of the spots, averaged
    over sections.
    """
    if not study.val:
        return None
    # The patches are read once and not again in every epoch.
    patches = {name: study.sections[name].patches() for name in study.val}

    def score(model: Any) -> float:
        scores = []
        for name, pixels in patches.items():
            targets = study.targets[name]
            predicted = predict_section(model, info, pixels, study.config)
            r = depth_adjusted_pearson(targets.expression, predicted, targets.log_depth)
            seen = np.where(targets.detection >= DETECTION_FLOOR, r, np.nan)
            scores.append(float(np.nanmean(seen)) if np.isfinite(seen).any() else float("nan"))
        return float(np.mean(scores))

    return score


def fit_ridge_head(study: SpotStudy, model: nn.Module, info: EncoderInfo) -> None:
    """Replace the last layer by a ridge regression of the training values on frozen features."""
    model.eval()
    # With views above 1 the features are averaged over views as well. The last layer is linear, so
    # this equals an average of predictions.
    before = BeforeLastLayer(model)
    features = np.concatenate(
        [
            predict_section(before, info, study.sections[name].patches(), study.config)
            for name in study.train
        ]
    )
    set_last_layer(model, *ridge_weights(features, study.training_values(study.train)))
