"""Decide whether a column of values varies, or is constant up to rounding errors.

A correlation with a constant is undefined. Predictions are float32, and a constant float32 column
has a standard deviation slightly above 0 because of rounding. Every function of this package uses
the thresholds below, so that a gene is undefined (NaN) in all results or in none.
"""

from __future__ import annotations

import numpy as np

from tcgn_mil.types.arrays import BoolArray, Float64Array, FloatArray

# A float32 has 24 bits, so its rounding error is about 6e-8 of its size. A standard deviation below
# 1e-7 of the largest absolute value may therefore be rounding alone.
RELATIVE_SPREAD_FLOOR = 1e-7
# The same for values that were computed in float64.
RELATIVE_SPREAD_FLOOR_FLOAT64 = 1e-9
# Part of a column's standard deviation that must remain after covariates are regressed out. If less
# remains, the column was a function of the covariates and the rest is rounding.
MIN_SPREAD_LEFT = 1e-5
MIN_VARIANCE_LEFT = 1e-10  # the same threshold for variances, which are squares


def rounding_floor(size: FloatArray) -> FloatArray:
    """Return the largest standard deviation that rounding can give a constant column.

    Parameters
    ----------
    size
        Largest absolute value of each column.
    """
    # The smallest normal float32 keeps the floor of an all-zero column above 0.
    return RELATIVE_SPREAD_FLOOR * np.maximum(size, np.finfo(np.float32).tiny)


def spread(values: FloatArray) -> Float64Array:
    """Return the standard deviation of each column of `values` (N, G), as (G,) float64."""
    return np.asarray(values, dtype=np.float64).std(axis=0)


def varies(values: FloatArray) -> BoolArray:
    """Return whether each column of `values` (N, G) varies by more than rounding, as (G,).

    Examples
    --------
    >>> import numpy as np
    >>> varies(np.array([[1.0, 0.1], [2.0, 0.1], [3.0, 0.1]]))
    array([ True, False])
    """
    return np.asarray(spread(values) > rounding_floor(np.abs(values).max(axis=0, initial=0)))
