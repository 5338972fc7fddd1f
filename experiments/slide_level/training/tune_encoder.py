"""Fine-tune the tile encoder with the loss of whole bags, once per fold (``--encoder-train``).

A fold starts from its model of stored features. A step encodes a seeded sample of the tiles of each
patient, with gradient, and the bag is that sample alone. Stored features of the other tiles are not
mixed in: they come from the encoder as it was before, and would pull the pooling back to it. A
small bag is noisier than a whole one; more steps make up for that.

Validation patients are judged by a fixed sample of their tiles, which is encoded anew after each
epoch. The frozen model is judged first, and a fold in which no epoch is better keeps the frozen
model and encoder. Otherwise the fold ends with an encoder of its own, ``encoder<k>.safetensors``,
which encodes all tiles of its test patients, and with a model that reads only its features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tcgn_mil.batches.pixel_bags import PixelBags, PixelBatch
from tcgn_mil.checkpoints import EncoderInfo, load_encoder, save_encoder
from tcgn_mil.checkpoints.published import find_checkpoint
from tcgn_mil.config import as_plain
from tcgn_mil.devices import resolve_device
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.experiments.slide_level.inputs.pixels import SlidePixels
from tcgn_mil.experiments.slide_level.inputs.study import SlideLevelStudy
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.models.end_to_end import BagNetwork
from tcgn_mil.models.lora import add_adapters, merge_adapters
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.loop import History, fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.tensorboard import TensorBoardLog
from tcgn_mil.types.features import UNTRAINED
from tcgn_mil.types.folds import Fold

FEATURES = "features"


class TunedFold(NamedTuple):
    """Model and encoder of a fold after fine-tuning.

    Attributes
    ----------
    regressor
        Slide model that reads features of `encoder`.
    encoder
        Identity of the encoder, as feature files name it.
    epochs
        Loss and validation score (negative mean squared error) of each epoch.
    slides
        Feature files of each test patient by that encoder; None if the frozen model was kept.
    start_score
        Validation score of the frozen model on the same tiles.
    """

    regressor: SlideRegressor
    encoder: str
    epochs: list[dict[str, float]]
    slides: dict[str, tuple[Path, ...]] | None
    start_score: float


class _Start(NamedTuple):
    """Networks before fine-tuning, and what trains them."""

    encoder: nn.Module
    info: EncoderInfo
    regressor: SlideRegressor
    network: BagNetwork
    train: PixelBags
    val: PixelBags
    training: TrainingConfig


def tune(
    study: SlideLevelStudy,
    pixels: SlidePixels,
    fold: Fold,
    frozen: SlideRegressor,
    scaled: NDArray[np.float32],
    seed: int,
) -> TunedFold:
    """Fine-tune the encoder on the training patients of a fold.

    Parameters
    ----------
    study
        Config, cohort and folder of the run.
    pixels
        Tiles of the slides of the cohort.
    fold
        The split.
    frozen
        Model of the fold on stored features; it is not changed.
    scaled
        (M, G) standardised targets of all patients of the cohort.
    seed
        Seed of the order of patients, the sampled tiles and dropout.
    """
    config, out_dir = study.config, study.out_dir
    started = _start(study, pixels, fold, frozen, scaled, seed)
    encoder, info, regressor, network, _, val, training = started
    # The frozen model is judged on the very tiles that judge each epoch; otherwise an epoch could
    # win by the choice of the tiles alone.
    network.to(resolve_device(training.accelerator)).eval()
    with torch.inference_mode():
        start = _score(network, val, config.tuning.val_tiles)
    history = _fit(started, config, out_dir, fold.index)
    if history.best_score <= start:
        return TunedFold(frozen, study.data.encoder, history.epochs, None, start)
    network.cpu()
    if config.encoder_train == "lora":
        merge_adapters(encoder)
    path = out_dir / f"encoder{fold.index}.safetensors"
    save_encoder(path, encoder, _tuned_info(config, info, fold))
    slides = _encode(pixels, fold.test, path, out_dir / FEATURES / f"fold{fold.index}", config)
    identity = open_encoder(str(path)).identity
    return TunedFold(regressor.eval(), identity, history.epochs, slides, start)


def follow_tuning(
    study: SlideLevelStudy,
    pixels: SlidePixels,
    fold: Fold,
    frozen: SlideRegressor,
    scaled: NDArray[np.float32],
    seed: int,
) -> None:
    """Help the first process of torchrun to fine-tune the encoder, and write nothing.

    The parameters are those of :func:`tune`. The first process alone encodes the test patients.
    """
    started = _start(study, pixels, fold, frozen, scaled, seed)
    _fit(started, study.config, study.out_dir, fold.index)


def _start(
    study: SlideLevelStudy,
    pixels: SlidePixels,
    fold: Fold,
    frozen: SlideRegressor,
    scaled: NDArray[np.float32],
    seed: int,
) -> _Start:
    config, data = study.config, study.data
    assert config.encoder is not None  # FinetuneConfig refuses encoder_train without an encoder
    encoder, info = _load(config, data)
    if config.encoder_train == "lora":
        add_adapters(encoder, config.tuning.lora)
    regressor = SlideRegressor(frozen.in_features, frozen.num_genes, frozen.config)
    regressor.load_state_dict(frozen.state_dict())
    network = BagNetwork(encoder, regressor, info.input_spec, config.encoder_train)
    training = dataclasses.replace(config.tuning.training, seed=seed)
    train, val = (
        PixelBags(names, pixels.tiles, pixels.source, scaled[data.rows_of(names)], seed=seed)
        for names in (fold.train, fold.val)
    )
    return _Start(encoder, info, regressor, network, train, val, training)


def _load(config: FinetuneConfig, data: CohortData) -> tuple[nn.Module, EncoderInfo]:
    """Load the encoder with the facts that are saved with it after tuning."""
    assert config.encoder is not None
    if (own := find_checkpoint(config.encoder)) is not None:
        return load_encoder(own)
    opened = open_encoder(config.encoder, **config.encoder_options.as_arguments())
    name = opened.identity.removeprefix(UNTRAINED).partition("[")[0]
    if opened.architecture is None or opened.architecture.pooling is None:
        name = name.rpartition("-")[0]  # without the digest of the weights
    info = EncoderInfo(
        name,
        panel=None,
        scaler=None,
        patch=data.patch,
        input_spec=opened.input_spec,
        architecture=opened.architecture,
        provenance={"started_from": dict(opened.record)},
    )
    return opened.model, info


def _fit(started: _Start, config: FinetuneConfig, out_dir: Path, fold: int) -> History:
    train, val, training = started.train, started.val, started.training

    def step(model: Any, batch: PixelBatch) -> torch.Tensor:
        return expression_loss(model(batch.pixels, batch.mask), batch.targets, training.loss)

    with TensorBoardLog(out_dir / "tensorboard" / f"fold{fold}-encoder") as log:
        return fit(
            started.network,
            step=step,
            config=training,
            description=f"fold {fold}, encoder",
            on_epoch=log,
            validate=lambda model: _score(model, val, config.tuning.val_tiles),
            epoch_batches=lambda epoch: train.epoch(
                epoch, batch_size=training.batch_size, tiles=config.tuning.tiles
            ),
            state_path=out_dir / "state" / f"encoder{fold}.safetensors",
        )


def _score(network: Any, bags: PixelBags, tiles: int) -> float:
    """Return the negative mean squared error over patients, each by a fixed sample of its tiles."""
    device = next(network.parameters()).device
    errors = []
    for patient, target in zip(bags.patients, bags.targets, strict=True):
        pixels = torch.from_numpy(bags.fixed_sample(patient, tiles)).to(device)[None]
        predicted = network(pixels, torch.ones(pixels.shape[:2], dtype=torch.bool, device=device))
        errors.append(np.square(predicted[0].float().cpu().numpy() - target))
    return -float(np.nanmean(errors))


def _tuned_info(config: FinetuneConfig, info: EncoderInfo, fold: Fold) -> EncoderInfo:
    """Return the description of the spot encoder with what was done to it.

    The head in the file is still that of the spots: fine-tuning changes the layers below it.
    """
    made = {
        "fine_tuned": {
            "config": as_plain(config),
            "fold": fold.index,
            "from": dict(info.provenance),
        }
    }
    return dataclasses.replace(info, provenance=made)


def _encode(
    pixels: SlidePixels,
    patients: Sequence[str],
    encoder: Path,
    folder: Path,
    config: FinetuneConfig,
) -> dict[str, tuple[Path, ...]]:
    """Encode the slides of the patients by the fold's encoder; files made before are kept."""
    slides = sorted(slide.slide_id for patient in patients for slide in pixels.tiles[patient])
    settings = EncodeSettings(str(encoder), device=config.tuning.training.accelerator)
    done, failures = encode_cohort(slides, pixels.source, settings, folder)
    files = {
        patient: tuple(
            folder / f"{slide.slide_id}.h5"
            for slide in pixels.tiles[patient]
            if slide.slide_id in done
        )
        for patient in patients
    }
    if lost := [patient for patient, own in files.items() if not own]:
        raise InputError(
            f"no slide of test patient {lost[0]} can be encoded: {failures[0].reason}",
            fix=failures[0].likely_fix
            or "repair the slide, or remove the patient from the cohort, and run again",
        )
    return files


def tuned_files(
    data: CohortData, folds: Sequence[Fold], out_dir: Path
) -> dict[str, tuple[Path, ...]]:
    """Return the feature files of each patient by the encoder of the fold that tests it.

    New slides are compared with them (out-of-distribution score). The encoders of the folds differ,
    which widens the spread a little, so that a new slide is flagged rather too late than too early.
    A fold that kept the frozen encoder contributes the stored features.
    """
    files = dict(data.slides)
    for fold in folds:
        folder = out_dir / FEATURES / f"fold{fold.index}"
        for patient in fold.test:
            encoded = tuple(folder / path.name for path in data.slides[patient])
            if made := tuple(path for path in encoded if path.is_file()):
                files[patient] = made
    return files
