"""Statistics over patients, out of fold: intervals, p-values from refitted nulls, Steiger's test, conformal bounds.

See PROTOCOL: Metrics, What counts as predictable, Uncertainty.

Arrays are (M, G): M patients, G genes. r is taken within each test fold and combined over folds by Fisher z, since r
over pooled folds is biased (a patient's absence from training shifts its fold's mean away from it).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tcgn_mil.metrics import CombinedR, combine_folds, pearson

Array = NDArray[np.floating]
APPROXIMATE_NULL_SD = float(np.sqrt(2))  # of the combined z where no refit can be paid for (PROTOCOL)
MAX_Q = 0.05
_GENES_AT_ONCE = 512


def fold_correlations(
    truth: Array, predicted: Array, fold_of: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Pearson r of each gene within each test fold.

    Parameters
    ----------
    truth, predicted
        (M, G), NaN where unknown; a patient unknown for a gene is left out of that gene's r.
    fold_of
        (M,) test fold of each patient.

    Returns
    -------
    (folds, G) r, NaN where it has no answer, and (folds, G) the patients it is over.
    """
    folds = np.unique(fold_of)
    r = np.full((len(folds), truth.shape[1]), np.nan)
    n = np.zeros(r.shape, dtype=np.int64)
    for row, fold in enumerate(folds):
        left, right = truth[fold_of == fold], predicted[fold_of == fold]
        known = np.isfinite(left) & np.isfinite(right)
        n[row] = known.sum(axis=0)
        whole = n[row] == len(left)
        r[row, whole] = pearson(left[:, whole], right[:, whole])
        for gene in np.flatnonzero(~whole & (n[row] > 2)):
            chosen = known[:, gene]
            r[row, gene] = pearson(left[chosen][:, [gene]], right[chosen][:, [gene]])[0]
    return r, n


class FoldTruth:
    """A truth against which many predictions are held, such as those of null replicates.

    What depends on the truth alone is done once; each prediction then takes three passes over its values, a few genes
    at a time so that they stay in the cache, in threads.

    Parameters
    ----------
    truth
        (M, G) without unknown values.
    fold_of
        (M,) test fold of each patient.

    Raises
    ------
    ValueError
        If a value is not finite; :func:`combined_r` takes such.
    """

    def __init__(self, truth: Array, fold_of: NDArray[np.int64]) -> None:
        if not np.isfinite(truth).all():
            raise ValueError("truth has unknown values")
        self.shape = truth.shape
        self.rows = [np.flatnonzero(fold_of == fold) for fold in np.unique(fold_of)]
        every = np.ones(truth.shape[1], dtype=np.bool_)
        self.standard = [_standard(truth[rows], every) for rows in self.rows]

    def correlations(self, predicted: Array) -> NDArray[np.float64]:
        """(folds, G) Pearson r within each fold, NaN where a gene is constant or a prediction unknown."""
        if predicted.shape != self.shape:
            raise ValueError(f"prediction {predicted.shape}, truth {self.shape}")
        out = np.full((len(self.rows), self.shape[1]), np.nan)

        def correlate(start: int) -> None:
            chosen = slice(start, start + _GENES_AT_ONCE)
            for row, (rows, left) in enumerate(zip(self.rows, self.standard, strict=True)):
                right = predicted[rows, chosen].astype(np.float32)
                right -= right.mean(axis=0)
                spread = np.sqrt(np.einsum("mg,mg->g", right, right) * np.float32(len(rows)))
                scale = np.abs(right).max(axis=0, initial=0)
                with np.errstate(divide="ignore", invalid="ignore"):
                    r = np.einsum("mg,mg->g", left[:, chosen], right) / spread
                known = (scale > 1e-6) & left[:, chosen].any(axis=0) & (len(rows) > 2)
                out[row, chosen] = np.where(known, np.clip(r, -1, 1), np.nan)

        with threadpool_limits(1), ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            list(pool.map(correlate, range(0, self.shape[1], _GENES_AT_ONCE)))
        return out

    def combined(self, predicted: Array) -> CombinedR:
        """As :func:`combined_r`."""
        return combine_folds(self.correlations(predicted), np.array([len(rows) for rows in self.rows], dtype=float))


def combined_r(truth: Array, predicted: Array, fold_of: NDArray[np.int64]) -> CombinedR:
    """r within each test fold, combined over folds by Fisher z weighted by n - 3; arrays as `fold_correlations`."""
    r, n = fold_correlations(truth, predicted, fold_of)
    return combine_folds(r, n.astype(np.float64))


def patient_bootstrap(
    truth: Array, predicted: Array, fold_of: NDArray[np.int64], *, replicates: int = 1000, seed: int = 0
) -> NDArray[np.float32]:
    """Combined r of resampled patients, (R, G) float32; patients are drawn with replacement within each fold.

    All replicates at once: with counts W (R, M) of how often a patient is drawn, each moment of a fold is W X. Genes
    with an unknown value in a fold have no r there.
    """
    rng = np.random.default_rng(seed)
    folds = [np.flatnonzero(fold_of == fold) for fold in np.unique(fold_of)]
    counts = [rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=replicates) for rows in folds]
    out = np.empty((replicates, truth.shape[1]), dtype=np.float32)
    for start in range(0, truth.shape[1], _GENES_AT_ONCE):
        chosen = slice(start, start + _GENES_AT_ONCE)
        genes = truth[:, chosen].shape[1]
        total = np.zeros((replicates, genes))
        weight, usable = np.zeros(genes), np.zeros(genes, dtype=np.int64)
        for rows, drawn in zip(folds, counts, strict=True):
            if len(rows) <= 3:
                continue
            z, known = _resampled_z(truth[rows, chosen], predicted[rows, chosen], drawn)
            total += np.where(known, z, 0) * (len(rows) - 3)
            weight += known * (len(rows) - 3)
            usable += known
        with np.errstate(divide="ignore", invalid="ignore"):
            out[:, chosen] = np.where(usable >= 3, np.tanh(total / weight), np.nan)
    return out


def _resampled_z(truth: Array, predicted: Array, drawn: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
    """Fisher z (R, g) of resampled patients of one fold, 0 where a draw is constant, and which genes are known."""
    known: NDArray[np.bool_] = np.isfinite(np.concatenate([truth, predicted])).all(axis=0)
    left, right = (_standard(values, known) for values in (truth, predicted))
    known = np.asarray(known & left.any(axis=0) & right.any(axis=0))
    weights = (drawn / len(truth)).astype(np.float32)
    mean_l, mean_r = weights @ left, weights @ right
    covariance = weights @ (left * right) - mean_l * mean_r
    spread = (weights @ np.square(left) - np.square(mean_l)) * (weights @ np.square(right) - np.square(mean_r))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(spread > 1e-9, covariance / np.sqrt(np.maximum(spread, 1e-9)), 0)
    return np.arctanh(np.clip(r, -0.999999, 0.999999)), known


def _standard(values: Array, known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Columns of mean 0 and variance 1, so that float32 moments lose nothing; zero where unknown or constant."""
    filled = np.where(known, values, 0).astype(np.float64)
    centred = filled - filled.mean(axis=0)
    spread = centred.std(axis=0)
    floor = 1e-7 * np.maximum(np.abs(filled).max(axis=0, initial=0), np.finfo(np.float32).tiny)
    return (np.where(spread > floor, centred, 0) / np.where(spread > floor, spread, 1)).astype(np.float32)


def null_p_values(z: Array, null_z: Array | None) -> NDArray[np.float64]:
    """One-sided p of r > 0 for each gene's combined z, NaN where it has none.

    Parameters
    ----------
    z
        (G,) combined z as observed.
    null_z
        (R, G) combined z of refits on permuted labels, pooled over genes; None takes a normal distribution with
        standard deviation sqrt(2), which is an approximation.
    """
    from scipy.stats import norm

    z = np.asarray(z, dtype=np.float64)
    if null_z is None:
        return np.where(np.isfinite(z), norm.sf(z / APPROXIMATE_NULL_SD), np.nan)
    pooled = np.sort(null_z[np.isfinite(null_z)])
    if not pooled.size:  # too few folds with more than three patients: then no gene has a z either
        return np.full(z.shape, np.nan)
    above = pooled.size - np.searchsorted(pooled, z, side="left")
    return np.where(np.isfinite(z), (above + 1) / (pooled.size + 1), np.nan)


def benjamini_hochberg(p: Array) -> NDArray[np.float64]:
    """q of each p, NaN where there is none."""
    from scipy.stats import false_discovery_control

    p = np.asarray(p, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q


def steiger_p(r_first: Array, r_second: Array, r_between: Array, n: NDArray[np.int64]) -> NDArray[np.float64]:
    """One-sided p that the first of two predictions of the same truth correlates more with it than the second.

    Steiger JH. Tests for comparing elements of a correlation matrix. Psychol Bull 1980;87:245-251, with the mean of
    the two r in the covariance (his Z̄2*).

    Parameters
    ----------
    r_first, r_second
        (G,) of each prediction with the truth.
    r_between
        (G,) of the two predictions.
    n
        (G,) patients.
    """
    from scipy.stats import norm

    first, second, between = (np.clip(values, -0.999999, 0.999999) for values in (r_first, r_second, r_between))
    mean_square = np.square((first + second) / 2)
    covariance = between * (1 - 2 * mean_square) - 0.5 * mean_square * (1 - 2 * mean_square - np.square(between))
    covariance = covariance / np.square(1 - mean_square)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (np.arctanh(first) - np.arctanh(second)) * np.sqrt(np.maximum(n - 3, 0) / (2 - 2 * covariance))
    return np.where(np.isfinite(z), norm.sf(z), np.nan)


class ConformalBounds(NamedTuple):
    """Half widths (G,) of symmetric intervals for new patients; the coverage measured, over all and (G,) by gene."""

    half_width: NDArray[np.float64]
    coverage: float
    coverage_by_gene: NDArray[np.float64]


def conformal_bounds(
    truth: Array, predicted: Array, fold_of: NDArray[np.int64], *, stated: float = 0.9
) -> ConformalBounds:
    """Split-conformal intervals from absolute out-of-fold residuals, patient by patient.

    Coverage is measured with each fold left out of the calibration in turn. A gene known in so few patients that no
    finite interval has the stated coverage is NaN.
    """
    residual = np.abs(np.asarray(truth, dtype=np.float64) - predicted)
    covered = np.full(residual.shape, np.nan)
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        width = _conformal_quantile(residual[~inside], stated)
        covered[inside] = np.where(
            np.isfinite(residual[inside]) & np.isfinite(width), residual[inside] <= width, np.nan
        )
    with np.errstate(invalid="ignore"):
        known = np.isfinite(covered)
        by_gene = np.where(known.any(axis=0), np.nansum(covered, axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)
    coverage = float(covered[known].mean()) if known.any() else float("nan")
    return ConformalBounds(_conformal_quantile(residual, stated), coverage, by_gene)


def _conformal_quantile(residual: Array, stated: float) -> NDArray[np.float64]:
    """(G,) the ceil((n + 1) stated)-th smallest residual of each gene; NaN where n is too small."""
    if not len(residual):
        return np.full(residual.shape[1], np.nan)
    ordered = np.sort(residual, axis=0)  # NaN last
    n = np.isfinite(residual).sum(axis=0)
    rank = np.ceil((n + 1) * stated).astype(np.int64)
    found = np.take_along_axis(ordered, np.clip(rank - 1, 0, len(ordered) - 1)[None], axis=0)[0]
    return np.where((rank <= n) & (n > 0), found, np.nan)
