"""Describe patients by the mean and the spread of their tiles, and take distances between them.

The patients are those of :mod:`tcgn_mil.inference.out_of_distribution`, in the spaces of
:mod:`tcgn_mil.inference.feature_spaces`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.inference.feature_spaces import PatientSpace, fit_patient_space

MIN_TILES = 4  # fewer tiles have no spread that could be compared
_LEAST_SPREAD = 0.05  # in standard deviations over all tiles, so that equal tiles have a logarithm
_EPSILON = 1e-9


class Described(NamedTuple):
    """Mean (n, R) of each patient, and logarithm of the spread (n, R), NaN with few tiles."""

    means: NDArray[np.float64]
    spreads: NDArray[np.float64]


def describe(values: Sequence[NDArray[np.floating]], size: int | None = None) -> Described:
    """Describe patients by the first `size` of their tiles (n_i, R), or by all of them."""
    means, spreads = [], []
    for every in values:
        some = every[:size].astype(np.float64)
        means.append(some.mean(axis=0))
        if len(some) < MIN_TILES:
            spreads.append(np.full(some.shape[1], np.nan))
        else:
            variance = some.var(axis=0, ddof=1) + _LEAST_SPREAD**2
            # The expected logarithm of the standard deviation of n normal values is too small by
            # about 1 / (2 (n - 1)).
            spreads.append(np.log(variance) / 2 + 1 / (2 * (len(some) - 1)))
    return Described(np.stack(means), np.stack(spreads))


def patient_spaces(
    values: Sequence[NDArray[np.floating]], patients: int
) -> tuple[PatientSpace, PatientSpace | None]:
    """Fit the spaces of means and of spreads; no spreads if no patient has enough tiles.

    `patients` is that of :func:`~tcgn_mil.inference.feature_spaces.fit_patient_space`.
    """
    means, spreads = describe(values)
    known = np.isfinite(spreads).all(axis=1)
    return (
        fit_patient_space(means, patients=patients),
        fit_patient_space(spreads[known], patients=patients) if known.any() else None,
    )


def log_distances(
    means: PatientSpace, spreads: PatientSpace | None, described: Described
) -> NDArray[np.float64]:
    """Return the logarithms (n, 2) of the two distances, NaN where there is no spread."""
    tiles = (
        np.full(len(described.means), np.nan)
        if spreads is None
        else spreads.distance(described.spreads)
    )
    distances = np.stack([means.distance(described.means), tiles], axis=1)
    return np.log(np.maximum(distances, _EPSILON))
