"""Refits on permuted labels: each is the fit that the training loop would make, and labels stay within sites."""

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
from tcgn_mil.statistics.out_of_fold import combined_r
from tcgn_mil.statistics.p_values import null_p_values
from tcgn_mil.training.loop import fit
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.permutation_null import NullBags, Refit, permutations, refit_predictions
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
    """Without dropout, whose draws differ: same order, rates, decay, clipping and epoch."""
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
        config = MilConfig(pooling=pooling, embedding=6, attention_hidden=4, heads=2, dropout=0)
        return SlideRegressor(D, G, config)

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


def test_labels_are_permuted_within_sites() -> None:
    patients = [f"P{i}" for i in range(30)]
    sites = {name: f"S{i % 3}" for i, name in enumerate(patients)}
    alone = {name: name for name in patients}
    orders = permutations(patients, alone, sites, count=5, seed=1)
    assert (np.sort(orders, axis=1) == np.arange(30)).all()
    assert (orders % 3 == np.arange(30) % 3).all()
    assert len({tuple(row) for row in orders}) == 5
    free = permutations(patients, alone, dict.fromkeys(patients, ""), count=5, seed=1)
    assert (free % 3 != np.arange(30) % 3).any()
    again = permutations(patients, alone, dict.fromkeys(patients, ""), count=5, seed=1)
    np.testing.assert_array_equal(free, again)


def test_the_rows_of_a_donor_stay_together() -> None:
    """20 donors of three sections and 20 of one: each triple's labels go to another triple, in any order."""
    donors = {
        f"{donor}/{row}": f"D{donor}"
        for donor in range(40)
        for row in range(3 if donor < 20 else 1)
    }
    patients = sorted(donors, key=lambda name: name[::-1])  # mixed
    orders = permutations(patients, donors, dict.fromkeys(patients, ""), count=20, seed=1)
    assert (np.sort(orders, axis=1) == np.arange(len(patients))).all()
    kept = []
    for order in orders:
        given: dict[str, set[str]] = {}
        for name, label in zip(patients, order, strict=True):
            given.setdefault(donors[name], set()).add(donors[patients[label]])
        assert all(len(sources) == 1 for sources in given.values())
        assert all(
            (int(donor[1:]) < 20) == (int(min(sources)[1:]) < 20)
            for donor, sources in given.items()
        )
        kept.append(np.mean([{donor} == sources for donor, sources in given.items()]))
    assert np.mean(kept) < 0.15


def test_a_donor_of_a_rare_number_of_rows_gives_its_labels_away_too() -> None:
    """Of one donor with five rows among nine with one, laid end to end: labels in a row, most of them elsewhere."""
    patients = [f"P{i}" for i in range(14)]
    donors = {name: "big" if i < 5 else name for i, name in enumerate(patients)}
    orders = permutations(patients, donors, dict.fromkeys(patients, ""), count=200, seed=1)
    assert (np.sort(orders, axis=1) == np.arange(14)).all()
    assert 0.1 < (orders[:, :5] < 5).mean() < 0.6


def test_donors_exchange_within_strata_only() -> None:
    patients = [f"P{i}" for i in range(24)]
    donors = {name: f"D{i // 2}" for i, name in enumerate(patients)}
    strata = {name: ("", f"cohort{i // 12}") for i, name in enumerate(patients)}
    orders = permutations(patients, donors, strata, count=10, seed=0)
    assert (orders[:, :12] < 12).all()
    assert (orders[:, 12:] >= 12).all()
    assert (orders[:, ::2] // 2 == orders[:, 1::2] // 2).all()


def test_p_is_even_where_rows_of_a_donor_are_alike() -> None:
    """Ridge on slides that say nothing of expression, both alike within a donor: rows permuted singly see signal."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(30), 3)
    fold_of, names = donor % 5, [f"P{row}" for row in range(len(donor))]

    def z(slides: np.ndarray, labels: np.ndarray) -> np.ndarray:
        predicted = np.zeros_like(labels)
        for fold in range(5):
            train = fold_of != fold
            centred = slides[train] - slides[train].mean(axis=0)
            weight = np.linalg.solve(
                centred.T @ centred + 10 * np.eye(slides.shape[1]), centred.T @ labels[train]
            )
            predicted[~train] = slides[~train] @ weight
        return combined_r(labels, predicted, fold_of).z

    shares: dict[str, list[float]] = {"rows": [], "donors": []}
    for seed in range(6):
        slides, labels = (
            rng.standard_normal((30, size))[donor] + 0.5 * rng.standard_normal((90, size))
            for size in (15, 150)
        )
        people = {
            "rows": dict(zip(names, names, strict=True)),
            "donors": dict(zip(names, map(str, donor), strict=True)),
        }
        for kind, donors in people.items():
            orders = permutations(names, donors, dict.fromkeys(names, ""), count=40, seed=seed)
            p = null_p_values(
                z(slides, labels), np.stack([z(slides, labels[order]) for order in orders])
            )
            shares[kind].append(float(np.mean(p < 0.05)))
    assert 0.025 < np.mean(shares["donors"]) < 0.08
    assert np.mean(shares["rows"]) > 0.1
