"""Start and train the attention network of one fold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
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
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.experiments.slide_level.inputs.study import SlideLevelStudy
from tcgn_mil.experiments.slide_level.inputs.targets import FoldTargets
from tcgn_mil.inference.slides import predict_bag
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.loop import fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.tensorboard import TensorBoardLog
from tcgn_mil.types.folds import Fold


class NetworkFold(NamedTuple):
    """Network of a fold before training, and what trains it.

    Attributes
    ----------
    model
        The network.
    bags
        Bags by part: ``train``, ``val`` and ``test``.
    statistics
        Mean and standard deviation of the features of the training tiles; None if the network reads
        ranks.
    training
        Settings with the seed of the fold.
    """

    model: SlideRegressor
    bags: dict[str, PatientBags]
    statistics: FeatureStatistics | None
    training: TrainingConfig


def start_network(study: SlideLevelStudy, fold: Fold, targets: FoldTargets) -> NetworkFold:
    """Make the bags of a fold and its network before training."""
    config = study.config
    # Each fold has a seed of its own, so that it gives the same result alone and among others.
    training = dataclasses.replace(config.training, seed=config.seed * 1000 + fold.index)
    bags = _bags_by_part(study, fold, targets.scaled, training.seed)
    statistics = (
        None
        if config.model.input == "ranks"
        else feature_statistics(bags["train"].bags, max_tiles=config.max_tiles)
    )
    model = new_model(study, fold, targets, statistics, training.seed)
    return NetworkFold(model, bags, statistics, training)


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


def new_model(
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


def fit_network(study: SlideLevelStudy, fold: Fold, network: NetworkFold) -> list[dict[str, float]]:
    """Train to the epoch with the best validation score; return loss and score of each epoch.

    Several processes of torchrun call it together. The first one alone writes the state.
    """
    bags, training = network.bags, network.training

    def step(model: Any, batch: BagBatch) -> torch.Tensor:
        return expression_loss(
            model(batch.features, batch.mask).expression, batch.targets, training.loss
        )

    # The score is the squared error whatever the training loss is, so that runs with different
    # losses choose their epoch by the same measure.
    def score(model: Any) -> float:
        targets = bags["val"].by_patient(bags["val"].bags.targets)
        return -float(np.nanmean(np.square(predict_patients(model, bags["val"]) - targets)))

    with TensorBoardLog(study.out_dir / "tensorboard" / f"fold{fold.index}") as log:
        history = fit(
            network.model,
            step=step,
            config=training,
            description=f"fold {fold.index}",
            validate=score,
            on_epoch=log,
            epoch_batches=lambda epoch: bags["train"].bags.epoch(
                epoch, batch_size=training.batch_size, max_tiles=study.config.max_tiles
            ),
            state_path=study.out_dir / "state" / f"fold{fold.index}.safetensors",
        )
    return history.epochs


def predict_patients(model: SlideRegressor, bags: PatientBags) -> NDArray[np.float32]:
    """Return (patients, G) standardised predictions from all tiles of each patient."""
    each = np.stack(
        [predict_bag(model, bags.bags.bag(index)).expression for index in range(len(bags.bags))]
    )
    return bags.by_patient(each)
