"""Combine correlations of several test folds into one per gene (Fisher z).

Predictions of different folds come from different models, whose levels differ, so r is computed
within each fold. Pooling the patients of all folds would bias r downwards: a patient who is absent
from training shifts the training mean away from that patient's value (docs/protocol.md, section
Metrics per gene).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray

MIN_FOLDS = 3
MAX_R = 0.999999  # the Fisher z of 1 is infinite

# Null standard deviation of the z combined over cross-validation folds. It would be 1 if the folds
# were independent, but they are not. Write the prediction for the patients of fold A as a sum over
# the folds B that its model was trained on, K_AB y_B with a symmetric kernel K. Then r_A contains
# y_A' K_AB y_B and r_B contains y_B' K_BA y_A, which is the same number. Each pair of folds is
# counted twice, so the variance of the sum is twice that of independent folds.
FOLD_NULL_SD = 2**0.5


class CombinedR(NamedTuple):
    """Correlations combined over folds, one value per gene.

    Attributes
    ----------
    r
        (G,) combined correlation in [-1, 1]; NaN where r is defined in too few folds.
    z
        (G,) its Fisher z divided by the standard error that independent folds would give.
    folds
        (G,) number of folds used.
    """

    r: Float64Array
    z: Float64Array
    folds: IntArray


class Strata(NamedTuple):
    """Groups of patients whose values are comparable: a test fold, or a cohort within a test fold.

    Attributes
    ----------
    of
        (M,) number of each patient's stratum.
    fold
        (S,) fold of each stratum.
    """

    of: IntArray
    fold: IntArray


def strata(fold_of: IntArray, cohort_of: IntArray | None = None) -> Strata:
    """Return the strata of patients by fold (M,) and, if given, cohort (M,), in this order."""
    pairs = np.stack([fold_of, np.zeros_like(fold_of) if cohort_of is None else cohort_of], axis=1)
    distinct, of = np.unique(pairs, axis=0, return_inverse=True)
    return Strata(of.reshape(-1), distinct[:, 0])


def combine_folds(
    r: FloatArray, n: FloatArray, *, min_folds: int = MIN_FOLDS, fold_of: IntArray | None = None
) -> CombinedR:
    """Combine correlations of folds by Fisher z, weighted by n - 3.

    Parameters
    ----------
    r
        (folds, G) correlation of each gene within each fold, NaN where it is not defined.
    n
        (folds,) or (folds, G) number of test samples; a fold with n <= 3 has no weight.
    min_folds
        A gene whose r is defined in fewer folds is NaN.
    fold_of
        (folds,) fold of each row of `r`, needed only where a fold has several rows (one for each
        cohort). Such rows count as one fold.

    Examples
    --------
    >>> combined = combine_folds([[0.5, 0.1], [0.3, 0.2], [0.4, float("nan")]], [20, 30, 25])
    >>> combined.r.round(3).tolist(), combined.folds.tolist()
    ([0.388, nan], [3, 2])
    """
    r = np.asarray(r, dtype=np.float64)
    # atanh(r) has variance 1 / (n - 3) for normal data. With weights w = n - 3 the combined value
    # is z_mean = sum(w atanh(r)) / sum(w), with variance 1 / sum(w):
    #     r_combined = tanh(z_mean),    z = z_mean * sqrt(sum(w)).
    weight = np.maximum(
        np.broadcast_to(np.asarray(n, dtype=np.float64).reshape(len(r), -1), r.shape) - 3, 0
    )
    usable = np.isfinite(r) & (weight > 0)
    weight = np.where(usable, weight, 0)
    fisher = np.arctanh(np.clip(np.where(usable, r, 0), -MAX_R, MAX_R))
    rows = np.arange(len(r)) if fold_of is None else fold_of
    folds = np.sum([usable[rows == fold].any(axis=0) for fold in np.unique(rows)], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weight * fisher).sum(axis=0) / weight.sum(axis=0)
    enough = folds >= min_folds
    return CombinedR(
        r=np.where(enough, np.tanh(mean), np.nan),
        z=np.where(enough, mean * np.sqrt(weight.sum(axis=0)), np.nan),
        folds=folds.astype(np.int64),
    )


def fold_null_sd(shares: FloatArray) -> float:
    """Return the null standard deviation of a combined z for a score that no model was fitted to.

    Such a score is a covariate or a signature. The z is that of predictions with the score.

    Parameters
    ----------
    shares
        (G,) share of each measured gene's variance that the score explains within folds: the
        squared correlation, or epsilon squared for categories. NaN where it is not known.

    Returns
    -------
    A number from 1 (no gene is related to the score) to sqrt(2) (a gene equals the score, or no
    share is known).
    """
    # As at FOLD_NULL_SD, but with a score s that is not the target y: r_A contains s_A' K_AB y_B
    # and r_B contains s_B' K_BA y_A. If images tell nothing, the correlation of these two terms is
    # rho^2, the squared correlation of s and y, and the variance of the sum grows by the factor
    # 1 + rho^2. The largest rho^2 over genes is taken, which makes the test conservative.
    finite = shares[np.isfinite(shares)]
    return float(np.sqrt(1 + min(finite.max(), 1.0))) if finite.size else FOLD_NULL_SD
