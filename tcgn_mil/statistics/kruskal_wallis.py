"""The Kruskal-Wallis test of many scores against one categorical covariate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tcgn_mil.statistics.ranks import patient_ranks
from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray


class KruskalWallis(NamedTuple):
    """Results of K scores.

    Attributes
    ----------
    h
        (K,) test statistic, corrected for ties.
    p
        (K,) p-value.
    epsilon2
        (K,) epsilon squared: share of the variance of the ranks that lies between groups.
    n
        (K,) number of patients used.
    """

    h: Float64Array
    p: Float64Array
    epsilon2: Float64Array
    n: Float64Array


def kruskal_wallis(scores: FloatArray, groups: IntArray, *, null_sd: float = 1.0) -> KruskalWallis:
    """Test whether scores differ between groups of patients (Kruskal & Wallis, JASA 1952).

    Parameters
    ----------
    scores
        (M, K), NaN where a score is missing.
    groups
        (M,) number of each patient's category; -1 means that it is not known.
    null_sd
        Null standard deviation of a combined z. It is above 1 for predictions of several folds'
        models (see :func:`tcgn_mil.statistics.fold_combination.fold_null_sd`); the p-value is that
        of h / null_sd^2.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.array([[1.0], [2.0], [3.0], [10.0], [11.0], [12.0]])
    >>> result = kruskal_wallis(scores, np.array([0, 0, 0, 1, 1, 1]))
    >>> result.h.round(3), result.p.round(3)
    (array([3.857]), array([0.05]))
    """
    from scipy import stats

    scores = np.where((groups >= 0)[:, None], scores, np.nan)
    ranks = patient_ranks(scores)
    finite = np.isfinite(ranks)
    n = finite.sum(axis=0).astype(np.float64)
    members = (groups[:, None] == np.arange(groups.max(initial=-1) + 1)).astype(np.float64)  # (M,L)
    sizes = members.T @ finite  # (L, K)
    # The statistic is H = (n - 1) * (sum of squares between groups) / (total sum of squares) of the
    # ranks. The textbook formula, once corrected for ties, is the same number.
    with np.errstate(divide="ignore", invalid="ignore"):
        centred = np.where(finite, ranks - np.nansum(ranks, axis=0) / n, 0)
        between = np.where(sizes > 0, np.square(members.T @ centred) / sizes, 0).sum(axis=0)
        share = between / np.square(centred).sum(axis=0)
    levels = (sizes > 0).sum(axis=0)
    share = np.where(levels > 1, share, np.nan)
    h = (n - 1) * share
    return KruskalWallis(h, stats.chi2.sf(h / null_sd**2, np.maximum(levels - 1, 1)), share, n)
