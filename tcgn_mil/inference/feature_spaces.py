"""Spaces in which patients are compared with training patients: of tiles, and of patients.

A robust scale brings every feature to a comparable range, also where it has heavy tails or missing
values. If patients have many tiles, features are then made uncorrelated over the tiles of the
training patients (whitening). Small differences along directions in which tiles hardly vary, as
another scanner or scale makes them, then count as much as large ones along the main directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Half of the range of the middle 68 % is the standard deviation of a normal distribution.
_MIDDLE = (0.16, 0.84)
# A smaller spread is rounding of float16 features, which must not be magnified.
_MIN_RELATIVE_SPREAD = 1e-4
# Directions with less than this share of the mean variance are rounding, not tissue.
_MIN_RELATIVE_VARIANCE = 1e-3
_MAX_DIRECTIONS, _TILES_PER_DIRECTION = 256, 10
_MAX_ALONG, _PATIENTS_PER_ALONG = 64, 10
_MAX_LEADING, _PATIENTS_PER_LEADING = 8, 5
_EPSILON = 1e-12  # avoids a division by zero


@dataclass(frozen=True)
class RobustScale:
    """Scale of D features that heavy tails and missing values do not disturb.

    A feature x becomes z = arcsinh((x - median) / unit), where the unit is half the range of the
    middle 68 % of the values: z is linear near the median, and logarithmic far from it. z is then
    standardised, and a missing value becomes 0, the mean.

    Attributes
    ----------
    centre, unit, mean, spread
        (D,) each.
    """

    centre: NDArray[np.float32]
    unit: NDArray[np.float32]
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]

    def __call__(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Scale features (n, D), which may be NaN; the result has no NaN."""
        bent = np.arcsinh((np.asarray(features, dtype=np.float64) - self.centre) / self.unit)
        return np.nan_to_num((bent - self.mean) / self.spread)


def fit_scale(features: NDArray[np.floating]) -> RobustScale:
    """Fit the scale to features (n, D) of training patients, NaN where a value is missing.

    Examples
    --------
    >>> import numpy as np
    >>> scale = fit_scale(np.array([[1.0], [2.0], [3.0], [4.0], [1000.0], [np.nan]]))
    >>> scale(np.array([[3.0], [1e6], [np.nan]])).round(1).ravel().tolist()
    [-0.5, 9.2, 0.0]
    """
    values = np.asarray(features, dtype=np.float64)
    known = np.isfinite(values)
    values = np.where(known, values, np.nan)
    # A feature without any value is 0 in every patient, and so is the distance that it adds.
    values[:, ~known.any(axis=0)] = 0
    centre = np.nanmedian(values, axis=0)
    low, high = np.nanquantile(values, _MIDDLE, axis=0)
    deviation = np.nanstd(values, axis=0)
    # Where most values are equal, as for counts that are mostly 0, the middle has no range.
    unit = np.where(high - low > 1e-3 * deviation, (high - low) / 2, deviation)
    steady = deviation <= _MIN_RELATIVE_SPREAD * np.maximum(np.abs(centre), 1e-3)
    unit = np.where(steady | (unit <= 0), 1.0, unit)
    bent = np.arcsinh((values - centre) / unit)
    spread = np.nanstd(bent, axis=0)
    spread = np.where(steady | (spread <= 0), 1.0, spread)
    return RobustScale(*(_stored(value) for value in (centre, unit, np.nanmean(bent, 0), spread)))


class Moments(NamedTuple):
    """Number of tiles, their sum (D,) and the sum of their outer products (D, D)."""

    tiles: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Moments:
        """Compute the moments of values (n, D)."""
        return cls(len(values), values.sum(axis=0), values.T @ values)

    def __add__(self, other: object) -> Moments:
        """Return the moments of both sets of tiles together."""
        assert isinstance(other, Moments)
        return Moments(
            self.tiles + other.tiles, self.total + other.total, self.products + other.products
        )


class Whitening(NamedTuple):
    """Map of values (n, D) to white ones: ``(values - mean) @ weights``.

    White values are uncorrelated over the tiles and have unit variance.

    Attributes
    ----------
    mean
        (D,).
    weights
        (D, R).
    """

    mean: NDArray[np.float32]
    weights: NDArray[np.float32]

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Map values (n, D) to (n, R)."""
        return (values - self.mean) @ self.weights


def whiten(moments: Moments) -> Whitening:
    """Fit the map to tiles, without directions that they do not vary in or are too few for."""
    mean, variance, directions = _principal(moments)
    kept = int((variance > _MIN_RELATIVE_VARIANCE * max(variance.mean(), _EPSILON)).sum())
    kept = max(1, min(kept, _MAX_DIRECTIONS, moments.tiles // _TILES_PER_DIRECTION))
    weights = directions[:, :kept] / np.sqrt(np.maximum(variance[:kept], _EPSILON))
    return Whitening(_stored(mean), _stored(weights))


def whiten_again(moments: Moments) -> Whitening:
    """Fit the map to some of the tiles whose white values are given; it is square.

    Of all maps that make these tiles white, it is the one that moves them least. The directions
    stay those of all tiles, so that spreads along them can be compared.
    """
    mean, variance, directions = _principal(moments)
    floor = max(_MIN_RELATIVE_VARIANCE * variance.mean(), _EPSILON)
    weights = (directions / np.sqrt(np.maximum(variance, floor))) @ directions.T
    return Whitening(_stored(mean), _stored(weights))


def _principal(
    moments: Moments,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean (D,), variances (D,) in descending order and directions (D, D) as columns."""
    mean = moments.total / moments.tiles
    variance, directions = np.linalg.eigh(moments.products / moments.tiles - np.outer(mean, mean))
    return mean, variance[::-1], directions[:, ::-1]


@dataclass(frozen=True)
class PatientSpace:
    """Leading components of what differs between training patients.

    Attributes
    ----------
    mean
        (R,) mean over the training patients.
    components
        (K, R) leading principal components.
    variance
        (K,) variance of the training patients along them.
    counts
        (2,) number of components of each of the two distances.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    variance: NDArray[np.float32]
    counts: NDArray[np.int32]

    def along(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Mahalanobis distance (n,) of values (n, R) along the components."""
        scores = self._scores(values)[:, : self.counts[0]]
        return np.sqrt((np.square(scores) / self.variance[: self.counts[0]]).mean(axis=1))

    def beyond(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance (n,) of values (n, R) from the space of the leading components."""
        inside = np.square(self._scores(values)[:, : self.counts[1]]).sum(axis=1)
        return np.sqrt(np.maximum(np.square(values - self.mean).sum(axis=1) - inside, 0))

    def _scores(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return (values - self.mean) @ self.components.T


def fit_patient_space(values: NDArray[np.float64]) -> PatientSpace:
    """Fit the space to one vector of each training patient, (M, R)."""
    mean = values.mean(axis=0)
    _, singular, rows = np.linalg.svd(values - mean, full_matrices=False)
    # One component is taken away by the mean, and those without variance are rounding.
    usable = int((singular > 1e-6).sum())
    # Few enough components that each variance is estimated from several patients.
    along = max(1, min(_MAX_ALONG, len(values) // _PATIENTS_PER_ALONG, usable))
    leading = max(1, min(_MAX_LEADING, len(values) // _PATIENTS_PER_LEADING, usable - 1))
    kept = max(along, leading)
    variance = np.maximum(np.square(singular[:kept]) / len(values), _EPSILON)
    return PatientSpace(
        _stored(mean),
        _stored(rows[:kept]),
        _stored(variance),
        np.array([along, leading], dtype=np.int32),
    )


def _stored(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
