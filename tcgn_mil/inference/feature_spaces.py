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
import scipy.linalg
from numpy.typing import NDArray

# Half of the range of the middle 68 % is the standard deviation of a normal distribution.
_MIDDLE = (0.16, 0.84)
# A smaller spread is rounding of float16 features, which must not be magnified.
_MIN_RELATIVE_SPREAD = 1e-4
# Directions with less than this share of the mean variance are rounding, not tissue.
_MIN_RELATIVE_VARIANCE = 1e-3
_MAX_DIRECTIONS, _TILES_PER_DIRECTION = 256, 10
_MAX_COMPONENTS, _PATIENTS_PER_COMPONENT = 8, 5
_ALONG_WEIGHT = 3  # standard deviations along the components that are still usual
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
    level = np.maximum(np.abs(low), np.abs(high))
    unit = np.where(high - low > _MIN_RELATIVE_SPREAD * level, (high - low) / 2, deviation)
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


def whiten(moments: Moments, *, directions: int | None = None) -> Whitening:
    """Fit the map to tiles.

    Parameters
    ----------
    moments
        Moments of the tiles.
    directions
        Number R of directions to keep, in the order of their variance. By default those along
        which tiles do not vary are left out, and those that there are too few tiles to measure.
    """
    mean = moments.total / moments.tiles
    covariance = moments.products / moments.tiles - np.outer(mean, mean)
    width = len(mean)
    floor = max(_MIN_RELATIVE_VARIANCE * float(np.trace(covariance)) / width, _EPSILON)
    # The others are never kept, and leaving them out saves most of the time of wide features.
    first = max(0, width - _MAX_DIRECTIONS)
    variance, vectors = scipy.linalg.eigh(covariance, subset_by_index=[first, width - 1])
    variance, vectors = variance[::-1], vectors[:, ::-1]
    if directions is None:
        most = min(_MAX_DIRECTIONS, moments.tiles // _TILES_PER_DIRECTION)
        directions = max(1, min(int((variance > floor).sum()), most))
    weights = vectors[:, :directions] / np.sqrt(np.maximum(variance[:directions], floor))
    return Whitening(_stored(mean), _stored(weights))


@dataclass(frozen=True)
class PatientSpace:
    """Leading principal components of what differs between training patients.

    With scores t_k of variance v_k along the K components, and the squared residual e of mean E,
    the distance of a patient is

        max( sqrt(e / E), sqrt(mean over k of t_k^2 / v_k) / 3 ).

    Training patients differ most along the leading components, where a new kind of slide is easily
    taken for one of them; what lies beyond these components tells more. A patient who is far
    outside along the components themselves is unusual too, hence the second term.

    Attributes
    ----------
    mean
        (R,) mean over the training patients.
    components
        (K, R) leading components.
    variance
        (K,) variance of the training patients along them.
    residual
        (1,) mean squared residual of the training patients.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    variance: NDArray[np.float32]
    residual: NDArray[np.float32]

    def distance(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distances (n,) of values (n, R)."""
        centred = values - self.mean
        scores = centred @ self.components.T
        beyond = np.square(centred - scores @ self.components).sum(axis=1) / self.residual
        along = (np.square(scores) / self.variance).mean(axis=1)
        return np.sqrt(np.maximum(beyond, along / _ALONG_WEIGHT**2))


def fit_patient_space(values: NDArray[np.float64], *, patients: int) -> PatientSpace:
    """Fit the space to one vector of each training patient.

    Parameters
    ----------
    values
        (M, R) vectors.
    patients
        Number of patients that decides how many components are kept, at most M. Distances in two
        spaces can be compared only if both have equally many.
    """
    mean = values.mean(axis=0)
    centred = values - mean
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    # Few enough components that each variance is estimated from several patients. One dimension is
    # taken away by the mean, and one is left for the distance from the space.
    most = min(patients, values.shape[1]) - 2
    kept = max(1, min(_MAX_COMPONENTS, patients // _PATIENTS_PER_COMPONENT, most))
    components = rows[:kept]
    beyond = np.square(centred - centred @ components.T @ components).sum(axis=1).mean()
    variance = np.square(singular[:kept]) / len(values)
    return PatientSpace(
        _stored(mean),
        _stored(components),
        _stored(np.maximum(variance, _EPSILON)),
        _stored(np.array([max(beyond, _EPSILON)])),
    )


def _stored(values: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)
