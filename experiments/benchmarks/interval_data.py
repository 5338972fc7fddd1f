"""Simulate cohorts with a known r, and make the intervals that the jackknife is compared with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tcgn_mil.statistics.fold_combination import MAX_R
from tcgn_mil.statistics.jackknife import COVERAGE, Interval, Jackknife

KINDS = ("normal", "heavy tails", "skewed")
_FREEDOM, _LOG_SD = 5, 0.6  # of Student's t, and of the logarithm of skewed values
FACTORS = 6
# Noise of the factors that the better and the worse predictor see, and noise of their predictions.
SEEN, BLURRED, NOISE = 0.7, 1.0, 0.3

Values = NDArray[np.float64]


class Pair(NamedTuple):
    """Measured and predicted values (M, G), whose true correlation is `r`."""

    truth: Values
    predicted: Values
    r: float


class Cohort(NamedTuple):
    """Measured values (M, G), and those of a better and of a worse predictor."""

    truth: Values
    better: Values
    worse: Values


def independent_genes(
    kind: str, rho: float, shape: tuple[int, int], rng: np.random.Generator
) -> Pair:
    """Draw genes that have one correlation and nothing else in common.

    Parameters
    ----------
    kind
        One of :data:`KINDS`: normal; both divided by a common factor, which gives Student's t with
        5 degrees of freedom; or the exponential of normal values.
    rho
        Correlation of the normal values. That of the exponentials is somewhat smaller.
    shape
        Patients and genes.
    rng
        Source of randomness.
    """
    truth, noise = rng.standard_normal((2, *shape))
    predicted = rho * truth + np.sqrt(1 - rho**2) * noise
    if kind == "heavy tails":
        scale = np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, shape))
        return Pair(truth * scale, predicted * scale, rho)
    if kind == "skewed":
        # The correlation of two log-normal variables.
        r = np.expm1(_LOG_SD**2 * rho) / np.expm1(_LOG_SD**2)
        return Pair(np.exp(_LOG_SD * truth), np.exp(_LOG_SD * predicted), float(r))
    return Pair(truth, predicted, rho)


class CorrelatedGenes:
    """Genes that share a few factors of the patients.

    Parameters
    ----------
    true_r
        (G,) correlation of each gene with the better predictor, below 0.79.
    """

    def __init__(self, true_r: Values) -> None:
        loads = np.random.default_rng(0).standard_normal((FACTORS, len(true_r)))
        self.loads = loads / np.linalg.norm(loads, axis=0)
        size = np.sqrt(1 + SEEN**2 + NOISE**2)
        self.shared = true_r * size
        self.better = float(np.median(true_r))
        self.worse = self.better * size / np.sqrt(1 + BLURRED**2 + NOISE**2)

    def draw(self, patients: int, rng: np.random.Generator, *, heavy_tails: bool) -> Cohort:
        """Draw a cohort; with heavy tails, a patient's values are all divided by one factor."""
        factors, first, second = rng.standard_normal((3, patients, FACTORS))
        seen = factors + SEEN * first
        blurred = seen + np.sqrt(BLURRED**2 - SEEN**2) * second
        noise = rng.standard_normal((3, patients, len(self.shared)))
        cohort = Cohort(
            self.shared * (factors @ self.loads) + np.sqrt(1 - self.shared**2) * noise[0],
            seen @ self.loads + NOISE * noise[1],
            blurred @ self.loads + NOISE * noise[2],
        )
        if not heavy_tails:
            return cohort
        scale = np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, (patients, 1)))
        return Cohort(*(values * scale for values in cohort))


def reweighted_z(
    truth: Values, predicted: Values, fold_of: NDArray[np.int64], weights: Values
) -> Values:
    """Return the combined Fisher z (R, G) of each row of weights (R, M)."""
    total, used = np.zeros((2, len(weights), truth.shape[1]))
    for fold in np.unique(fold_of):
        rows = fold_of == fold
        x, y = (stats.zscore(values[rows]) for values in (truth, predicted))
        weight = weights[:, rows] / weights[:, rows].sum(axis=1, keepdims=True)
        mean_x, mean_y = weight @ x, weight @ y
        variance = (weight @ (x * x) - mean_x**2) * (weight @ (y * y) - mean_y**2)
        defined = variance > 1e-20  # a fold without variation in a replicate is left out
        r = (weight @ (x * y) - mean_x * mean_y) / np.sqrt(np.where(defined, variance, 1))
        z = np.where(defined, np.arctanh(np.clip(r, -MAX_R, MAX_R)), 0)
        total += (rows.sum() - 3) * z
        used += (rows.sum() - 3) * defined
    return total / used


def resampling_weights(
    fold_of: NDArray[np.int64], replicates: int, rng: np.random.Generator, *, dirichlet: bool
) -> Values:
    """Return (R, M): how often each patient is drawn within its fold, or Dirichlet weights."""
    weights = np.empty((replicates, len(fold_of)))
    for fold in np.unique(fold_of):
        rows = np.flatnonzero(fold_of == fold)
        ones = np.ones(len(rows))
        weights[:, rows] = (
            rng.dirichlet(ones, replicates)
            if dirichlet
            else rng.multinomial(len(rows), ones / len(rows), replicates)
        )
    return weights


def percentiles(replicates: Values) -> Interval:
    """Return the percentile interval over the first axis of replicates."""
    tail = 50 * (1 - COVERAGE)
    return Interval(*np.percentile(replicates, [tail, 100 - tail], axis=0))


def bias_corrected(replicates: Values, values: Jackknife) -> Interval:
    """Return the BCa interval (Efron, J. Am. Stat. Assoc. 1987) of each gene, as Fisher's z."""
    z = np.arctanh(values.r)
    below = np.mean(replicates < z, axis=0)
    shift = stats.norm.ppf(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates)))
    squares = np.square(values.deviations).sum(axis=0)
    skew = (values.deviations**3).sum(axis=0) / (6 * squares**1.5)
    bounds = []
    for tail in ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2):
        moved = shift + stats.norm.ppf(tail)
        level = stats.norm.cdf(shift + moved / (1 - skew * moved))
        ordered = np.sort(replicates, axis=0)
        row = np.clip(level * len(ordered), 0, len(ordered) - 1).astype(int)
        bounds.append(np.take_along_axis(ordered, row[None], axis=0)[0])
    return Interval(*bounds)
