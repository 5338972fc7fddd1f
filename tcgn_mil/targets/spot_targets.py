"""What a spot network is trained on, made from normalised expression: without depth, and with what genes share.

On sparse sections most of a gene's variation between spots is counting noise, and much of the rest is sequencing depth,
which any statistic of tissue density predicts. Both can be taken out of training values, never of those that judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.statistics.gene_metrics import residuals_on_depth
from tcgn_mil.types.tiles import TargetScaler

_LEAST_SPREAD = 1e-6


def training_targets(
    sections: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]],
    scaler: TargetScaler,
    *,
    remove_depth: bool = False,
    rank: int = 0,
) -> NDArray[np.float32]:
    """Standardised values of the spots of several training sections, one below the other.

    Parameters
    ----------
    sections
        (expression (S, G), log_depth (S,)) of each section, expression in the unit of `scaler`.
    scaler
        Fitted on all of them.
    remove_depth
        Values are residuals on a cubic spline of log depth, section by section, each gene then of variance 1 in that
        section; so differences between sections, which are of batch and of depth, are out as well.
    rank
        Above 0, the values are projected on their so many leading principal components (over all spots): a gene keeps
        what it shares with others, which is measured far better than the gene itself.

    Returns
    -------
    (S_all, G) float32, standardised: :meth:`TargetScaler.unscale` brings predictions to the unit of expression.

    Raises
    ------
    ValueError
        If an expression value is not finite.
    """
    parts = [
        _beyond_depth(*section) if remove_depth else scaler.scale(section[0])
        for section in sections
    ]
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        raise ValueError("training values are not finite")
    return _leading_components(values, rank) if rank else values.astype(np.float32)


def _beyond_depth(
    expression: NDArray[np.floating], log_depth: NDArray[np.floating]
) -> NDArray[np.floating]:
    left = residuals_on_depth(expression, log_depth)
    spread = left.std(axis=0)
    return left / np.where(spread > _LEAST_SPREAD, spread, 1)


def _leading_components(values: NDArray[np.floating], rank: int) -> NDArray[np.float32]:
    """The closest values of that rank about the mean; all where there are no more components."""
    mean = values.mean(axis=0, dtype=np.float64)
    centred: Any = values - mean
    if rank >= min(values.shape):
        return values.astype(np.float32)
    left, size, right = _svd(centred, rank)
    return np.asarray((left * size) @ right + mean, dtype=np.float32)


def _svd(values: NDArray[np.floating], rank: int) -> tuple[NDArray, NDArray, NDArray]:
    """The leading singular vectors, exactly where the matrix is small, else by scikit-learn's randomised method."""
    if min(values.shape) <= 3000:
        left, size, right = np.linalg.svd(values, full_matrices=False)
        return left[:, :rank], size[:rank], right[:rank]
    from sklearn.utils.extmath import randomized_svd

    return randomized_svd(values, rank, n_iter=7, random_state=0)
