"""Normal scores of ranks as a layer, beside the same scores in numpy."""

from __future__ import annotations

import numpy as np
import torch

from tcgn_mil.layers.rank_scores import RankScores
from tcgn_mil.regression.rank_normaliser import RankNormaliser


def test_with_all_values_as_knots_the_scores_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    training = rng.standard_cauchy((41, 5)).astype(np.float32)
    training[3, 1] = training[7, 1]  # a tie
    new = np.concatenate([rng.standard_cauchy((9, 5)).astype(np.float32), training[:4]])
    layer = RankScores(5, 41)
    layer.fit(torch.from_numpy(training))
    expected = RankNormaliser(training)(new)
    np.testing.assert_allclose(layer(torch.from_numpy(new)).numpy(), expected, atol=1e-5)
    bags = torch.from_numpy(new).reshape(1, 13, 5)
    torch.testing.assert_close(layer(bags)[0], layer(torch.from_numpy(new)))


def test_missing_and_constant_values_score_zero() -> None:
    training = torch.randn(50, 3)
    training[:, 1] = 4
    training[:10, 2] = torch.nan
    training[:, 0] = torch.nan
    layer = RankScores(3, 20)
    layer.fit(training)
    scores = layer(torch.tensor([[torch.nan, 4.0, torch.nan]]))
    assert scores.abs().max() < 0.01
    assert torch.isfinite(layer(training)).all()
