"""Baselines: colour statistics, ridge regression and the depth control."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2hed
from sklearn.linear_model import Ridge

from tcgn_mil import baselines
from tcgn_mil.baselines import (
    COLOUR_STATISTICS,
    colour_statistics,
    depth_predictions,
    ridge_predictions,
)


def patches(count: int = 5, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 12, 10, 3), dtype=np.uint8)


def test_colour_statistics_are_those_of_each_channel() -> None:
    out = colour_statistics(patches())
    assert out.shape == (5, COLOUR_STATISTICS)
    image = patches()[3]
    channels = np.concatenate([image / 255, rgb2hed(image)], axis=-1).reshape(-1, 6)
    expected = [
        channels.mean(axis=0),
        channels.std(axis=0),
        *np.percentile(channels, (10, 50, 90), axis=0),
    ]
    assert np.allclose(out[3], np.concatenate(expected), atol=1e-5)


def test_colour_statistics_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = colour_statistics(patches())
    monkeypatch.setattr(baselines, "_PATCHES_AT_ONCE", 2)
    assert np.allclose(colour_statistics(patches()), whole, atol=1e-6)
    assert np.allclose(colour_statistics(patches()[[4]]), whole[[4]], atol=1e-6)
    assert colour_statistics(patches()[:0]).shape == (0, COLOUR_STATISTICS)


def test_colour_statistics_ignore_where_pixels_lie() -> None:
    turned = patches()[:, ::-1, ::-1]
    assert np.allclose(colour_statistics(turned), colour_statistics(patches()), atol=1e-5)


@pytest.mark.filterwarnings("error")
def test_ridge_finds_a_linear_rule_and_leaves_noise_alone() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 6)) * [1, 10, 0.01, 1, 1, 1]  # standardising makes scales irrelevant
    y = np.column_stack([x[:, 1] / 10 + 100 * x[:, 2], np.full(300, 7.0)])
    out = ridge_predictions(x[:200], y[:200], x[200:])
    assert out.dtype == np.float32
    assert np.corrcoef(out[:, 0], y[200:, 0])[0, 1] > 0.99
    assert np.allclose(out[:, 1], 7)
    noise = rng.normal(size=(200, 3))
    assert ridge_predictions(x[:200], noise, x[200:]).std() < 0.3


def test_ridge_is_scikit_learns_at_one_of_the_penalties() -> None:
    rng = np.random.default_rng(1)
    x, y, new = rng.normal(size=(30, 4)), rng.normal(size=(30, 2)), rng.normal(size=(5, 4))
    out = ridge_predictions(x, y, new)
    scaled, scaled_new = (
        (x - x.mean(axis=0)) / x.std(axis=0),
        (new - x.mean(axis=0)) / x.std(axis=0),
    )
    candidates = [
        Ridge(alpha).fit(scaled, y).predict(scaled_new) for alpha in np.logspace(0, 6, 13)
    ]
    assert min(np.abs(out - candidate).max() for candidate in candidates) < 1e-4


@pytest.mark.parametrize("genes", [1, 3])
def test_predictions_are_samples_by_genes(genes: int) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20, 4)), rng.normal(size=(20, genes))
    assert ridge_predictions(x, y, x[:1]).shape == (1, genes)
    assert depth_predictions(x[:, 0], y, x[:3, 0]).shape == (3, genes)


def test_depth_control_follows_depth_and_nothing_else() -> None:
    rng = np.random.default_rng(3)
    depth = rng.uniform(4, 10, size=400)
    y = np.column_stack([np.sin(depth), rng.normal(size=400)])
    out = depth_predictions(depth[:300], y[:300], depth[300:])
    assert np.corrcoef(out[:, 0], y[300:, 0])[0, 1] > 0.95
    assert out[:, 1].std() < 0.4
    again = depth_predictions(depth[:300], y[:300], depth[300:][::-1])
    assert np.allclose(again[::-1], out, atol=1e-5)


def test_depth_control_survives_equal_depths_and_stays_linear_beyond_them() -> None:
    rng = np.random.default_rng(4)
    same = depth_predictions(np.full(20, 5.0), rng.normal(size=(20, 2)), np.array([4.0, 5, 6]))
    assert np.isfinite(same).all()
    depth = np.linspace(5, 9, 100)
    out = depth_predictions(depth, depth[:, None] * 2, np.array([2.0, 12.0]))
    assert np.allclose(out[:, 0], [4, 24], atol=1e-2)
