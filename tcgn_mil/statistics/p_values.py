"""P-values over genes: false discovery rate, nulls from refitted models, and Steiger's test."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tcgn_mil.statistics.fold_combination import FOLD_NULL_SD, MAX_R
from tcgn_mil.types.arrays import BoolArray, Float64Array, FloatArray, IntArray

MAX_Q = 0.05  # false discovery rate below which a gene counts as predictable


def benjamini_hochberg(p: FloatArray, tested: BoolArray | None = None) -> Float64Array:
    """Compute the false discovery rate q of p-values (Benjamini & Hochberg, J R Stat Soc B 1995).

    Parameters
    ----------
    p
        P-values of any shape. NaN means that a test has no result; it does not count as a test.
    tested
        Of the same shape: False for p-values that do not belong to the family of tests.

    Returns
    -------
    q of the same shape, NaN for what was not tested.

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, float("nan"), 0.03]).round(3).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    from scipy.stats import false_discovery_control

    p = np.asarray(p, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    finite = np.isfinite(p) if tested is None else np.isfinite(p) & tested
    if finite.any():
        q[finite] = false_discovery_control(p[finite])
    return q


def null_p_values(z: FloatArray, null_z: FloatArray | None) -> Float64Array:
    """Compute the one-sided p-value of r > 0 for the combined z of each gene.

    The null is made by permuting the measured values across patients and fitting the model again.
    To permute the predictions of one fitted model is not valid, because the folds of a
    cross-validation share training patients (see `FOLD_NULL_SD`, and docs/protocol.md, section
    Predictable genes).

    Parameters
    ----------
    z
        (G,) combined z as observed; NaN where a gene has none.
    null_z
        (R, G) combined z of R refits on permuted values. None takes a normal distribution with
        standard deviation sqrt(2) instead, which is an approximation.

    Returns
    -------
    (G,) p-values, NaN where `z` is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> null = np.random.default_rng(0).normal(0, 1.4, size=(50, 100))
    >>> null_p_values(np.array([0.0, 3.0]), null).round(2).tolist()
    [0.49, 0.02]
    """
    from scipy.stats import norm

    z = np.asarray(z, dtype=np.float64)
    if null_z is None:
        return np.where(np.isfinite(z), norm.sf(z / FOLD_NULL_SD), np.nan)
    # The null z of all genes are pooled, because z has approximately the same null distribution for
    # every gene: 50 refits of 1000 genes then give 50 000 null values instead of 50. The genes of
    # one refit are correlated, so they carry less information than 50 000 independent values, but
    # this does not bias p. Adding 1 to both counts keeps p above 0 (Phipson & Smyth, Stat Appl
    # Genet Mol Biol 2010).
    pooled = np.sort(null_z[np.isfinite(null_z)])
    if not pooled.size:
        # Too few folds have more than three patients, so that the observed z are NaN as well.
        return np.full(z.shape, np.nan)
    above = pooled.size - np.searchsorted(pooled, z, side="left")
    return np.where(np.isfinite(z), (above + 1) / (pooled.size + 1), np.nan)


def null_p_by_others(null_z: FloatArray) -> Iterator[Float64Array]:
    """Yield the p-values of each refit, computed from all the other refits.

    They show whether the p-values of :func:`null_p_values` are calibrated (docs/protocol.md,
    section Calibration).

    Parameters
    ----------
    null_z
        (R, G) combined z of the refits.

    Yields
    ------
    (G,) p-values of one refit, R times.
    """
    pooled = np.sort(null_z[np.isfinite(null_z)])
    for z in null_z:
        own = np.sort(z[np.isfinite(z)])
        # The counts among the others are the counts among all minus those of the refit itself.
        above_all = pooled.size - np.searchsorted(pooled, z, side="left")
        above_own = own.size - np.searchsorted(own, z, side="left")
        p = (above_all - above_own + 1) / (pooled.size - own.size + 1)
        yield np.where(np.isfinite(z), p, np.nan)


def steiger_p(
    r_first: FloatArray, r_second: FloatArray, r_between: FloatArray, n: IntArray
) -> Float64Array:
    """Test whether the first of two predictions correlates more with the same truth.

    Steiger JH. Tests for comparing elements of a correlation matrix. Psychol Bull 1980;87:245-251,
    with the mean of the two r in the covariance (the statistic Z2* with a bar in the paper).

    Parameters
    ----------
    r_first, r_second
        (G,) correlation of each prediction with the truth.
    r_between
        (G,) correlation of the two predictions with each other.
    n
        (G,) number of patients.

    Returns
    -------
    (G,) p-values; NaN where a correlation is NaN, and 0.5 where n is at most 3.
    """
    from scipy.stats import norm

    # The two correlations share the truth, so they are not independent. With the mean correlation
    # m = (r1 + r2) / 2 and b = r_between, the covariance of their Fisher z is c / (n - 3), where
    #     c = [b (1 - 2 m^2) - m^2 (1 - 2 m^2 - b^2) / 2] / (1 - m^2)^2.
    # The statistic is (atanh r1 - atanh r2) sqrt((n - 3) / (2 - 2 c)).
    first, second, between = (
        np.clip(values, -MAX_R, MAX_R) for values in (r_first, r_second, r_between)
    )
    mean_square = np.square((first + second) / 2)
    covariance = between * (1 - 2 * mean_square) - 0.5 * mean_square * (
        1 - 2 * mean_square - np.square(between)
    )
    covariance = covariance / np.square(1 - mean_square)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (np.arctanh(first) - np.arctanh(second)) * np.sqrt(
            np.maximum(n - 3, 0) / (2 - 2 * covariance)
        )
    return np.where(np.isfinite(z), norm.sf(z), np.nan)
