"""Ranks of values among patients, with ties, missing values and folds."""

from __future__ import annotations

import numpy as np

from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray


def patient_ranks(values: FloatArray, groups: IntArray | None = None) -> Float64Array:
    """Return the rank of each value among the patients, column by column, as a share of them.

    Parameters
    ----------
    values
        (M, G), NaN where a value is missing.
    groups
        (M,) number of each patient's group, for example the test fold. Ranks are then taken within
        groups. None means that all patients are comparable.

    Returns
    -------
    (M, G) float64: (rank - 1/2) / n in (0, 1), where n is the number of known values of the column
    in the group. Tied values share their average rank. A missing value stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> patient_ranks(np.array([[10.0], [30.0], [20.0], [np.nan]])).round(2).ravel().tolist()
    [0.17, 0.83, 0.5, nan]
    """
    from scipy.stats import rankdata

    out = np.full(values.shape, np.nan)
    for rows in (
        [slice(None)] if groups is None else [groups == group for group in np.unique(groups)]
    ):
        part = values[rows]
        finite = np.isfinite(part)
        if part.size:
            # rankdata is several times faster when it need not look for missing values.
            ranks = (
                rankdata(part, axis=0)
                if finite.all()
                else rankdata(part, axis=0, nan_policy="omit")
            )
            out[rows] = np.where(finite, (ranks - 0.5) / np.maximum(finite.sum(axis=0), 1), np.nan)
    return out


def paired_ranks(
    first: FloatArray, second: FloatArray, folds: IntArray | None = None
) -> tuple[Float64Array, Float64Array]:
    """Return the ranks of two matrices among the patients that have both values, within folds.

    Parameters
    ----------
    first, second
        (M, G) and (M, G) or (M, 1), NaN where a value is missing.
    folds
        (M,) fold of each patient, or None.

    Returns
    -------
    Two (M, G) matrices as :func:`patient_ranks` gives them.
    """
    left = np.asarray(first, dtype=np.float64)
    right = np.broadcast_to(np.asarray(second, dtype=np.float64), left.shape)
    finite = np.isfinite(left) & np.isfinite(right)
    if finite.all() and np.shape(second)[1] == 1:
        # One column is compared with many: it is ranked once.
        only = patient_ranks(right[:, :1], folds)
        return patient_ranks(left, folds), np.broadcast_to(only, left.shape)
    return (
        patient_ranks(np.where(finite, left, np.nan), folds),
        patient_ranks(np.where(finite, right, np.nan), folds),
    )
