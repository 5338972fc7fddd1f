"""``--encoder-train last|all``: the tile encoder fine-tuned through the bag, fold by fold, from the frozen run's model.

A step encodes a seeded sample of each patient's tiles, and the bag is that sample: tiles of one step are all by the
encoder as it is then. Stored features of the other tiles would be those of an encoder that no longer exists, and would
pull the pooling back to it. What a small bag adds in noise, more steps take out.

Validation patients are judged by a fixed sample of their tiles, encoded anew at each epoch, the frozen model first: a
fold in which no epoch is better keeps the frozen model and encoder. Test patients are then encoded whole by the fold's
own encoder. Each fold ends with an encoder of its own, ``encoder<k>.safetensors``, and a model that reads features of
no other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tcgn_mil.batches.pixel_bags import PixelBags, PixelBatch
from tcgn_mil.checkpoints import EncoderInfo, load_encoder, save_encoder
from tcgn_mil.config import as_plain
from tcgn_mil.devices import resolve_device
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.experiments.slide_level.cohort import CohortData, rows_of
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.feature_files import read_feature_info, read_features
from tcgn_mil.models.end_to_end import BagNetwork
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.loop import History, fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.tensorboard import TensorBoardLog
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.tile_geometry import check_patch
from tcgn_mil.types.tiles import TileSet, stain_identity

FEATURES = "features"


@dataclass(frozen=True)
class SlidePixels:
    """Tiles of each patient's slides, and the source that reads their pixels."""

    tiles: Mapping[str, tuple[TileSet, ...]]
    source: TileSource


class Tuned(NamedTuple):
    """What a fold ends with.

    Attributes
    ----------
    regressor
        Of features by `identity`.
    identity
        Of the encoder, as feature files carry it.
    epochs
        Loss and validation score (negative squared error) by epoch.
    slides
        Test patient -> feature files by that encoder; None where the frozen model was kept.
    start_score
        Validation score of the frozen model on the same tiles.
    """

    regressor: SlideRegressor
    identity: str
    epochs: list[dict[str, float]]
    slides: dict[str, tuple[Path, ...]] | None
    start_score: float


def with_pixels(
    config: FinetuneConfig, data: CohortData, source: TileSource
) -> tuple[CohortData, SlidePixels]:
    """The cohort with the tiles of its slides; slides whose tiles or pixels cannot be read are dropped, and listed.

    Raises
    ------
    InputError
        If no patient is left.
    """
    tiles: dict[str, tuple[TileSet, ...]] = {}
    slides: dict[str, tuple[Path, ...]] = {}
    lost: list[tuple[str, str, str]] = []
    for patient in data.patients:
        kept: list[tuple[Path, TileSet]] = []
        for path in data.slides[patient]:
            try:
                kept.append((path, _readable(data, path, source)))
            except InputError as error:
                lost.append(("slide", path.stem, f"for its pixels: {error}"))
        if kept:
            slides[patient], tiles[patient] = (tuple(column) for column in zip(*kept, strict=True))  # type: ignore[assignment]
        else:
            lost.append(("patient", patient, "no slide whose pixels can be read"))
    if not slides:
        raise InputError(
            f"no slide's pixels can be read: {lost[0][2]}",
            path=config.tiles,
            fix="check --slides and --tiles",
        )
    rows = rows_of(data, list(slides))
    left = dataclasses.replace(
        data,
        patients=tuple(slides),
        slides=slides,
        values=data.values[rows],
        descriptors={name: values[rows] for name, values in data.descriptors.items()},
        dropped=pd.concat(
            [data.dropped, pd.DataFrame(lost, columns=data.dropped.columns)], ignore_index=True
        ),
    )
    return left, SlidePixels(tiles, source)


def _readable(data: CohortData, path: Path, source: TileSource) -> TileSet:
    """A slide's tiles, if they are what its features were made from and the first can be read."""
    tiles = source.find(path.stem)
    check_patch(data.patch, tiles.spec.patch)
    if stain_identity(tiles.stain) != data.stain:
        raise InputError(
            f"its tiles are normalised by {stain_identity(tiles.stain)}, its features by {data.stain}",
            fix="give the tiles that the slides were encoded from",
        )
    first = tiles.select(slice(0, 1))
    if not len(first):
        raise InputError("has no tile", fix="check the slide's tissue in its overlay")
    with source.open(first, 1) as batches:
        for _ in batches:
            pass
    if (encoded := read_feature_info(path).n_tiles) != len(tiles):
        raise InputError(
            f"has {len(tiles)} tiles, its features {encoded}",
            fix="give the tiles that the slides were encoded from",
        )
    return tiles


def tune(
    config: FinetuneConfig,
    data: CohortData,
    pixels: SlidePixels,
    fold: Fold,
    frozen: SlideRegressor,
    scaled: NDArray[np.float32],
    out_dir: Path,
    *,
    seed: int,
) -> Tuned:
    """Fine-tune the encoder on a fold's training patients.

    Parameters
    ----------
    frozen
        The fold's model of stored features, which is left as it is.
    scaled
        (M, G) standardised targets of the cohort's patients.
    seed
        Of order, tile samples and dropout.
    """
    assert config.encoder is not None  # finetuning has refused runs without
    encoder, info = load_encoder(config.encoder)
    regressor = SlideRegressor(frozen.in_features, frozen.num_genes, frozen.config)
    regressor.load_state_dict(frozen.state_dict())
    network = BagNetwork(encoder, regressor, info.input_spec, config.encoder_train)
    training = dataclasses.replace(config.tuning.training, seed=seed)
    train, val = (
        PixelBags(names, pixels.tiles, pixels.source, scaled[rows_of(data, names)], seed=seed)
        for names in (fold.train, fold.val)
    )
    network.to(resolve_device(training.accelerator)).eval()
    with torch.inference_mode():
        start = _score(network, val, config.tuning.val_tiles)
    history = _fit(network, train, val, config, training, out_dir, fold.index)
    if history.best_score <= start:
        return Tuned(frozen, data.encoder, history.epochs, None, start)
    network.cpu()
    path = out_dir / f"encoder{fold.index}.safetensors"
    save_encoder(path, encoder, _tuned_info(config, info, fold))
    slides = _encode(
        data, pixels, fold.test, path, out_dir / FEATURES / f"fold{fold.index}", config
    )
    return Tuned(regressor.eval(), open_encoder(str(path)).identity, history.epochs, slides, start)


def _fit(
    network: BagNetwork,
    train: PixelBags,
    val: PixelBags,
    config: FinetuneConfig,
    training: TrainingConfig,
    out_dir: Path,
    fold: int,
) -> History:
    def step(model: Any, batch: PixelBatch) -> torch.Tensor:
        return expression_loss(model(batch.pixels, batch.mask), batch.targets, training.loss)

    with TensorBoardLog(out_dir / "tensorboard" / f"fold{fold}-encoder") as log:
        return fit(
            network,
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
    """Negative mean squared error of patients, each by a fixed sample of its tiles."""
    device = next(network.parameters()).device
    errors = []
    for patient, target in zip(bags.patients, bags.targets, strict=True):
        pixels = torch.from_numpy(bags.fixed_sample(patient, tiles)).to(device)[None]
        predicted = network(pixels, torch.ones(pixels.shape[:2], dtype=torch.bool, device=device))
        errors.append(np.square(predicted[0].float().cpu().numpy() - target))
    return -float(np.nanmean(errors))


def _tuned_info(config: FinetuneConfig, info: EncoderInfo, fold: Fold) -> EncoderInfo:
    """The spot encoder's, with what was done to it; its head still is that of the spots."""
    made = {
        "fine_tuned": {
            "config": as_plain(config),
            "fold": fold.index,
            "from": dict(info.provenance),
        }
    }
    return dataclasses.replace(info, provenance=made)


def _encode(
    data: CohortData,
    pixels: SlidePixels,
    patients: Sequence[str],
    encoder: Path,
    folder: Path,
    config: FinetuneConfig,
) -> dict[str, tuple[Path, ...]]:
    """Features of patients' slides by a fold's encoder; made before, they are kept."""
    slides = sorted(slide.slide_id for patient in patients for slide in pixels.tiles[patient])
    settings = EncodeSettings(str(encoder), device=config.tuning.training.accelerator)
    done, failures = encode_cohort(slides, pixels.source, settings, folder)
    found = {
        patient: tuple(
            folder / f"{slide.slide_id}.h5"
            for slide in pixels.tiles[patient]
            if slide.slide_id in done
        )
        for patient in patients
    }
    if lost := [patient for patient, files in found.items() if not files]:
        raise InputError(
            f"no slide of test patient {lost[0]} can be encoded: {failures[0].reason}",
            fix=failures[0].likely_fix or "mend the slide, or leave the patient out, and run again",
        )
    return found


def tuned_means(data: CohortData, folds: Sequence[Fold], out_dir: Path) -> NDArray[np.float32]:
    """(M, D) mean features of each patient by the encoder of the fold that tests it, which new slides are held against.

    Encoders of folds differ, which widens the spread a little: a new slide is flagged rather too late than too early.
    """
    found = data.descriptors["mean_features"].copy()
    for fold in folds:
        for patient, row in zip(fold.test, rows_of(data, fold.test), strict=True):
            paths = [
                out_dir / FEATURES / f"fold{fold.index}" / path.name
                for path in data.slides[patient]
            ]
            if made := [
                path for path in paths if path.is_file()
            ]:  # none where the frozen encoder was kept
                found[row] = np.mean([read_features(path)[0].mean(axis=0) for path in made], axis=0)
    return found
