"""Each refit on permuted labels equals the fit that the training loop would make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tile_sets import tile_set

from tcgn_mil.batches.feature_bags import BagBatch, BagDataset
from tcgn_mil.batches.patient_bags import PatientBags
from tcgn_mil.inference.slides import predict_bag
from tcgn_mil.io.feature_files import write_features
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.loop import fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.permutation_null import NullBags, Refit, refit_predictions
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

D, G = 5, 3
SPEC = TileSpec.for_slide(PatchSize(112, 0.69), slide_mpp=0.69, level_downsamples=[1.0])


def bags_of(folder: Path, names: list[str], labels: np.ndarray, seed: int) -> PatientBags:
    files = {}
    for index, name in enumerate(names):
        tiles = 3 + index % 4
        values = (
            np.random.default_rng(index + ord(name[0]))
            .standard_normal((tiles, D))
            .astype(np.float32)
        )
        slide = tile_set(np.zeros((tiles, 2), np.int64), SPEC, name)
        write_features(folder / f"{name}.h5", values, slide, encoder="toy")
        files[name] = [folder / f"{name}.h5"]
    return PatientBags(BagDataset(names, files, labels, seed=seed), np.arange(len(names)))


@pytest.mark.parametrize("pooling", ["gated", "max", "transformer"])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_refit_is_the_fit_of_the_training_loop(tmp_path: Path, pooling: Any, keep: Any) -> None:
    """Order, rates, decay, clipping and epoch are the same; draws of dropout would differ."""
    names = {
        part: [f"{part[0]}{i}" for i in range(count)]
        for part, count in (("train", 11), ("val", 5), ("test", 4))
    }
    rng = np.random.default_rng(0)
    labels = {
        part: rng.standard_normal((2, len(names[part]), G)).astype(np.float32) for part in names
    }
    labels["train"][1, 3, 1] = np.nan
    training = TrainingConfig(
        epochs=9,
        batch_size=4,
        lr=2e-2,
        weight_decay=0.2,
        patience=2,
        clip_norm=0.3,
        loss="mix",
        keep=keep,
        seed=5,
    )

    def make(number: int) -> SlideRegressor:
        torch.manual_seed(number)
        # One of the poolings reads ranks of the features, which the refits compute once.
        config = MilConfig(
            pooling=pooling,
            embedding=6,
            attention_hidden=4,
            heads=2,
            dropout=0,
            input="ranks" if pooling == "max" else "standardise",
        )
        model = SlideRegressor(D, G, config)
        if pooling == "max":
            model.rank_features(torch.randn(30, D, generator=torch.Generator().manual_seed(0)))
        return model

    expected = []
    for number in range(2):
        bags = {
            part: bags_of(tmp_path, names[part], labels[part][number], 5).bags for part in names
        }

        def predict(model: Any, part: BagDataset) -> np.ndarray:
            return np.stack(
                [predict_bag(model, part.bag(row)).expression for row in range(len(part))]
            )

        def step(model: Any, batch: BagBatch) -> torch.Tensor:
            return expression_loss(
                model(batch.features, batch.mask).expression, batch.targets, "mix"
            )

        model = make(number)
        fit(
            model,
            step=step,
            config=training,
            epoch_batches=lambda epoch, bags=bags: bags["train"].epoch(
                epoch, batch_size=4, max_tiles=4
            ),
            validate=lambda model, bags=bags: (
                -float(np.nanmean(np.square(predict(model, bags["val"]) - bags["val"].targets)))
            ),
        )
        expected.append(predict(model, bags["test"]))
    parts = [
        bags_of(tmp_path, names[part], labels[part][0], 5) for part in ("train", "val", "test")
    ]
    asked: list[int] = []

    def start(number: int) -> Refit:
        asked.append(number)
        return Refit(make(number), labels["train"][number], labels["val"][number])

    found = np.stack(
        [*refit_predictions(start, 2, NullBags(*parts), training, max_tiles=4, description="")]
    )
    assert asked == [0, 1]
    np.testing.assert_allclose(found, np.stack(expected), atol=2e-3)
    assert np.abs(found[0] - found[1]).max() > 0.05


def test_each_refit_draws_its_own_dropout(tmp_path: Path) -> None:
    names = [f"p{i}" for i in range(6)]
    labels = np.random.default_rng(0).standard_normal((6, G)).astype(np.float32)
    bags = bags_of(tmp_path, names, labels, 5)

    def start(_: int) -> Refit:
        torch.manual_seed(0)
        return Refit(SlideRegressor(D, G, MilConfig(embedding=6, dropout=0.5)), labels, labels)

    training = TrainingConfig(epochs=1, batch_size=3, lr=1e-2, keep="last")
    first, second = refit_predictions(
        start, 2, NullBags(bags, bags, bags), training, max_tiles=4, description=""
    )
    assert np.isfinite(first).all()
    assert np.abs(first - second).max() > 1e-5
