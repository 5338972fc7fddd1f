"""The closed-form slide model: fit, checkpoint and prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tcgn_mil.batches.bag_files import Bag
from tcgn_mil.checkpoints import SlideModelInfo, load_slide_model, save_slide_model
from tcgn_mil.errors import InputError
from tcgn_mil.inference.fold_models import FoldModel
from tcgn_mil.models.component_regression import ComponentRegression
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.statistics.gene_metrics import pearson
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize

N, D, G = 80, 5, 12


@pytest.fixture
def training() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N, D)).astype(np.float32)
    targets = features @ rng.standard_normal((D, G)) + rng.standard_normal((N, G))
    targets = (targets - targets.mean(axis=0)) / targets.std(axis=0)
    return features, targets.astype(np.float32)


def fitted(kind: str, training: tuple[np.ndarray, np.ndarray]) -> ComponentRegression:
    model = ComponentRegression(D, G, MilConfig(kind=kind), patients=N)  # type: ignore[arg-type]
    model.fit(*training)
    return model


def info_of(model: ComponentRegression) -> SlideModelInfo:
    names = [f"P{i}" for i in range(N)]
    return SlideModelInfo(
        config=model.config,
        in_features=D,
        panel=GenePanel(tuple(f"G{i}" for i in range(G))),
        scaler=TargetScaler("z", np.zeros(G, np.float32), np.ones(G, np.float32)),
        unit="z",
        encoder="table:toy",
        patch=PatchSize(8, 1.0),
        fold=Fold(0, tuple(names[:60]), tuple(names[60:]), ("new",)),
    )


@pytest.mark.parametrize("kind", ["ridge", "kernel"])
def test_a_checkpoint_predicts_as_the_model_that_was_saved(
    kind: str, training: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    model = fitted(kind, training)
    save_slide_model(tmp_path / "fold0.safetensors", model, info_of(model))
    loaded, info = load_slide_model(tmp_path / "fold0.safetensors")
    assert isinstance(loaded, ComponentRegression)
    assert info.config.kind == kind
    new = np.random.default_rng(1).standard_normal((6, D))
    new[0, 2] = np.nan
    expected = model.predict(new)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(loaded.predict(new), expected)
    assert np.median(pearson(training[1], model.predict(training[0]))) > 0.6


def test_a_bag_is_predicted_by_the_mean_over_its_slides(
    training: tuple[np.ndarray, np.ndarray],
) -> None:
    model = fitted("ridge", training)
    rng = np.random.default_rng(2)
    features = rng.standard_normal((7, D)).astype(np.float32)
    slide = np.array([0, 0, 0, 0, 0, 1, 1])
    bag = Bag(features, np.zeros((7, 2), np.int64), slide)
    found = FoldModel(model, info_of(model)).predict(bag, [])
    means = [features[slide == number].mean(axis=0) for number in (0, 1)]
    np.testing.assert_allclose(
        found.expression, model.predict(np.mean(means, axis=0)[None])[0], rtol=1e-5, atol=1e-6
    )
    assert found.attention.sum() == pytest.approx(1)
    assert found.attention[slide == 0].sum() == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"has no tile scores.*--kind attention"):
        FoldModel(model, info_of(model)).predict(bag, [0])


def test_targets_of_low_rank_and_unknown_targets_are_fitted(
    training: tuple[np.ndarray, np.ndarray],
) -> None:
    features, _ = training
    targets = np.repeat(features[:, :1], G, axis=1)
    targets[:3, 0] = np.nan
    model = fitted("ridge", (features, targets))
    predicted = model.predict(features)
    assert np.isfinite(predicted).all()
    assert pearson(features[:, :1], predicted[:, 5:6])[0] > 0.95


def test_the_own_scale_of_a_cohort_removes_a_shift(
    training: tuple[np.ndarray, np.ndarray],
) -> None:
    model = fitted("kernel", training)
    features, targets = training
    shifted = 100 + 7 * features
    np.testing.assert_allclose(
        model.predict_by_own_scale(shifted), model.predict(features), atol=1e-5
    )
    # Beyond all training values every patient gets the extreme rank, so that nothing is told apart.
    assert model.predict(shifted).std(axis=0).max() < 0.2 * targets.std(axis=0).min()
