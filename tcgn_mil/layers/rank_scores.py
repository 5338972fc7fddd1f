"""Layer that replaces features by normal scores of their ranks among training values."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RankScores(nn.Module):
    """Map each feature to the normal score of its rank among the training values.

    Features of slides, such as areas and counts of cells, have tails of any length, which
    standardisation keeps and ranks remove. A missing value (NaN) becomes 0, the score of the
    median, and so does every value of a feature that is constant in training.

    Parameters
    ----------
    features
        D, number of features.
    knots
        K, number of quantiles by which the training values of a feature are kept.

    Examples
    --------
    >>> layer = RankScores(features=1, knots=3)
    >>> layer.fit(torch.tensor([[1.0], [2.0], [1000.0]]))
    >>> layer(torch.tensor([[2.0], [torch.nan], [5e5]])).ravel().abs().round(decimals=2)
    tensor([0.0000, 0.0000, 0.6700])
    """

    quantiles: Tensor

    def __init__(self, features: int, knots: int) -> None:
        super().__init__()
        self.register_buffer("quantiles", torch.zeros(features, knots))

    def fit(self, training: Tensor) -> None:
        """Keep the quantiles of the training values (N, D), leaving missing ones out."""
        # By sorting, since torch.nanquantile refuses more than 16 million values. Missing values
        # come last.
        ordered = training.sort(dim=0).values
        known = (~training.isnan()).sum(dim=0).clamp(min=1)
        levels = torch.linspace(0, 1, self.quantiles.shape[1], dtype=torch.float64)
        rows = (levels[:, None] * (known - 1)).round().long()
        self.quantiles.copy_(ordered.gather(0, rows).nan_to_num().T)  # (D, K)

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (..., D) of features (..., D)."""
        values = features.reshape(-1, features.shape[-1]).T.contiguous()  # (D, N)
        missing = values.isnan()
        values = values.nan_to_num()
        below = torch.searchsorted(self.quantiles, values)
        below_or_equal = torch.searchsorted(self.quantiles, values, right=True)
        knots = self.quantiles.shape[1]
        # A value between or tied with knots gets their average rank; the extreme ranks are 1 and K.
        rank = ((below + below_or_equal + 1) / 2).clamp(1, knots)
        scores = torch.special.ndtri(rank / (knots + 1)).masked_fill(missing, 0)
        return scores.T.reshape(features.shape).to(features.dtype)
