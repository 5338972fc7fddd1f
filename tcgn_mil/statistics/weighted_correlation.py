"""Pearson correlation of many genes under many weightings of the samples at once."""

from __future__ import annotations

import numpy as np

from tcgn_mil.statistics.variation import MIN_VARIANCE_LEFT, rounding_floor
from tcgn_mil.types.arrays import Float64Array, FloatArray


def weighted_r(first: FloatArray, second: FloatArray, weights: Float64Array) -> Float64Array:
    """Compute the Pearson r of each gene under each row of weights.

    A bootstrap draw is a row of weights that says how often each sample was drawn, so that all
    draws and all genes are computed by a few matrix products.

    Parameters
    ----------
    first, second
        (M, G) values; NaN where a value is missing. Each gene uses the samples that have both.
    weights
        (R, M) nonnegative weights of the samples.

    Returns
    -------
    (R, G) float64; NaN where a gene does not vary, or does not vary under these weights.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0], [2.0], [3.0], [5.0]])
    >>> y = np.array([[2.0], [1.0], [4.0], [4.0]])
    >>> weighted_r(x, y, np.array([[1.0, 1, 1, 1], [2, 0, 1, 1]])).round(3).tolist()
    [[0.748], [0.905]]
    """
    finite = np.isfinite(first) & np.isfinite(second)
    n = np.maximum(finite.sum(axis=0), 1)
    columns = []
    # Both columns are brought to mean 0 and standard deviation 1 over the known samples first.
    # The weighted moments below are then differences of numbers near 1, without cancellation.
    for values in (first, second):
        centred = np.where(finite, values - np.where(finite, values, 0).sum(axis=0) / n, 0)
        scale = np.sqrt(np.square(centred).sum(axis=0) / n)
        size = np.abs(np.where(finite, values, 0)).max(axis=0, initial=0)
        columns.append(centred / np.where(scale <= rounding_floor(size), np.nan, scale))
    x, y = columns
    with np.errstate(divide="ignore", invalid="ignore"):
        total = weights @ finite
        mean_x, mean_y = weights @ x / total, weights @ y / total
        variance_x = weights @ (x * x) / total - mean_x**2
        variance_y = weights @ (y * y) / total - mean_y**2
        covariance = weights @ (x * y) / total - mean_x * mean_y
        r = covariance / np.sqrt(variance_x * variance_y)
    defined = (variance_x > MIN_VARIANCE_LEFT) & (variance_y > MIN_VARIANCE_LEFT)
    return np.where(defined, np.clip(r, -1, 1), np.nan)
