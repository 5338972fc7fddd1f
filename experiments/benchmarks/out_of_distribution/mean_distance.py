"""Out-of-distribution score of earlier versions, with which the present one is compared.

It is the distance of a patient's mean features from those of the training patients: along their
leading principal components (Mahalanobis) and from the space that these span, added as squares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.inference.out_of_distribution import MAX_P

_PERCENTILE, _COMPONENTS = 99, 16


class OldScore(NamedTuple):
    """Score of earlier versions: distance of mean features, with two limits for the flag."""

    distance: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    limit: float
    limit_5: float

    def __call__(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of each patient's mean features."""
        return self.distance(means)

    @classmethod
    def fit(cls, means: NDArray[np.float64]) -> OldScore:
        """Fit the distance, and its limits from training patients that are left out."""
        groups = np.random.default_rng(0).permutation(len(means)) % 10
        usual = np.empty(len(means))
        for group in range(10):
            inside = groups == group
            usual[inside] = _old_distance(means[~inside])(means[inside])
        # p <= 0.05 if fewer than 0.05 (M + 1) of the training patients are as far.
        allowed = int(MAX_P * (len(means) + 1))
        limit_5 = float(np.sort(usual)[len(means) - allowed]) if allowed else np.inf
        return cls(_old_distance(means), float(np.percentile(usual, _PERCENTILE)), limit_5)


def _old_distance(
    means: NDArray[np.float64],
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    known = np.nan_to_num(means, nan=0.0)
    mean, scale = known.mean(axis=0), known.std(axis=0)
    scale = np.where(scale > 1e-4 * np.maximum(np.abs(mean), 1e-3), scale, 1.0)
    standard = (known - mean) / scale
    _, singular, rows = np.linalg.svd(standard, full_matrices=False)
    kept = max(1, min(_COMPONENTS, len(means) // 5, int((singular > 1e-6).sum())))
    variance = np.square(singular[:kept]) / len(means)
    inside = standard @ rows[:kept].T
    residual = np.square(standard - inside @ rows[:kept]).sum(axis=1).mean()

    def distance(others: NDArray[np.float64]) -> NDArray[np.float64]:
        values = (np.nan_to_num(others, nan=0.0) - mean) / scale
        scores = values @ rows[:kept].T
        left = np.square(values - scores @ rows[:kept]).sum(axis=1) / residual
        return np.sqrt(((np.square(scores) / variance).sum(axis=1) + left) / (kept + 1))

    return distance
