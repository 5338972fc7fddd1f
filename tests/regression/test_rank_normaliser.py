"""Normal scores of ranks, and the scale of features with heavy tails and missing values."""

from __future__ import annotations

import numpy as np
from scipy import stats

from tcgn_mil.regression.rank_normaliser import FeatureScale, RankNormaliser


def test_rank_scores_are_normal_scores_of_average_ranks() -> None:
    rng = np.random.default_rng(1)
    training = rng.standard_cauchy((30, 4)) * 1e3
    training[3, 2] = training[7, 2]  # a tie
    scores = RankNormaliser(training)(training)
    expected = stats.norm.ppf(stats.rankdata(training, axis=0) / 31)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_new_values_get_scores_between_their_training_neighbours() -> None:
    training = np.array([[1.0], [2.0], [3.0]])
    scores = RankNormaliser(training)(np.array([[0.0], [1.5], [2.0], [99.0], [np.nan]])).ravel()
    known = stats.norm.ppf(np.array([1, 1.5, 2, 3]) / 4)
    np.testing.assert_allclose(scores[:4], known, atol=1e-6)
    assert np.isnan(scores[4])


def test_a_scale_does_not_see_tails_units_or_missing_values() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((80, 3))
    stretched = np.exp(5 * features)  # the same order, with a tail of many orders of magnitude
    np.testing.assert_allclose(FeatureScale(stretched)(stretched), FeatureScale(features)(features))
    scaled = FeatureScale(features)(features)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-6)
    features[:5, 1] = np.nan
    scaled = FeatureScale(features)(features)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled[:5, 1]).max() < 0.01  # the score of the median


def test_constant_and_unknown_features_become_zero() -> None:
    features = np.stack([np.full(20, 3.0), np.full(20, np.nan), np.arange(20.0)], axis=1)
    scaled = FeatureScale(features)(np.array([[99.0, 1.0, 19.0]]))
    assert scaled[0, :2].tolist() == [0, 0]
    assert scaled[0, 2] > 1


def test_a_scale_is_made_again_from_its_sorted_training_values() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((30, 4)).astype(np.float32)
    features[2, 0] = np.nan
    scale = FeatureScale(features)
    new = rng.standard_normal((7, 4))
    np.testing.assert_allclose(FeatureScale(scale.training)(new), scale(new))
