"""Statistics over patients, out of fold: intervals, p-values from refitted nulls, Steiger's test, conformal bounds.

See PROTOCOL: Metrics, What counts as predictable, Uncertainty.

Arrays are (M, G): M patients, G genes. r is taken within each test fold and combined over folds by Fisher z, since r
over pooled folds is biased (a patient's absence from training shifts its fold's mean away from it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.statistics.bootstrap import strata
from tcgn_mil.statistics.correlation import paired_ranks
from tcgn_mil.statistics.gene_metrics import (
    FOLD_NULL_SD,
    CombinedR,
    GeneMetrics,
    combine_folds,
    gene_metrics,
    pearson,
    varies,
    weighted_r,
)
from tcgn_mil.statistics.grouped_correlation import grouped_pearson, rows_by_group

Array = NDArray[np.floating]
MAX_Q = 0.05


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
    (folds, G) r, NaN where it has no answer, and (folds, G) the patients it is over. float32 is taken in single
    precision, r within 1e-5, but where that is not enough.
    """
    folds = rows_by_group(fold_of)
    single = truth.dtype == predicted.dtype == np.float32
    fast = grouped_pearson(truth, predicted, folds) if single else None
    r = np.full((len(folds), truth.shape[1]), np.nan)
    n = np.zeros(r.shape, dtype=np.int64)
    for row, rows in enumerate(folds):
        chosen = np.ones(truth.shape[1], dtype=np.bool_)
        if fast is not None:
            chosen = ~fast.exact[row]
            r[row], n[row] = fast.r[row], np.count_nonzero(fold_of == fold_of[rows][0])
        if chosen.any():
            r[row, chosen], n[row, chosen] = _exact_r(
                truth[rows][:, chosen], predicted[rows][:, chosen]
            )
    return r, n


def _exact_r(left: Array, right: Array) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """r (G,) in double precision over the patients that have both values, and how many they are."""
    n = (np.isfinite(left) & np.isfinite(right)).sum(axis=0)
    if (n == len(left)).all():
        return pearson(left, right), n
    return np.where(n > 2, weighted_r(left, right, np.ones((1, len(left))))[0], np.nan), n


def combined_r(
    truth: Array,
    predicted: Array,
    fold_of: NDArray[np.int64],
    cohort_of: NDArray[np.int64] | None = None,
) -> CombinedR:
    """r within each test fold (and cohort), combined by Fisher z weighted by n - 3; arrays as `fold_correlations`."""
    within = strata(fold_of, cohort_of)
    r, n = fold_correlations(truth, predicted, within.of)
    return combine_folds(r, n.astype(np.float64), fold_of=within.fold)


def known_metrics(truth: Array, predicted: Array) -> GeneMetrics:
    """Pearson, Spearman, R2 and RMSE per gene over the patients (M, G) that have both values, all folds together."""
    known = np.isfinite(truth) & np.isfinite(predicted)
    n = known.sum(axis=0)
    if known.all():
        return gene_metrics(truth, predicted)
    one_fold = np.zeros(len(truth), dtype=np.int64)
    truth, predicted = (
        np.where(known, values, np.nan).astype(np.float64) for values in (truth, predicted)
    )
    r = fold_correlations(truth, predicted, one_fold)[0][0]
    spearman = fold_correlations(*paired_ranks(truth, predicted), one_fold)[0][0]
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.nansum(np.square(truth - predicted), axis=0)
        total = np.nansum(np.square(truth - np.nansum(truth, axis=0) / n), axis=0)
        r2 = np.where(
            varies(np.where(known, truth, np.nansum(truth, axis=0) / n)), 1 - error / total, np.nan
        )
        return GeneMetrics(r, spearman, r2, np.sqrt(error / n), n.astype(np.int64))


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
        return np.where(np.isfinite(z), norm.sf(z / FOLD_NULL_SD), np.nan)
    pooled = np.sort(null_z[np.isfinite(null_z)])
    if not pooled.size:  # too few folds with more than three patients: then no gene has a z either
        return np.full(z.shape, np.nan)
    above = pooled.size - np.searchsorted(pooled, z, side="left")
    return np.where(np.isfinite(z), (above + 1) / (pooled.size + 1), np.nan)


def null_p_by_others(null_z: Array) -> Iterator[NDArray[np.float64]]:
    """p (G,) of each refit's z (R, G) as :func:`null_p_values` gives it from all the other refits."""
    pooled = np.sort(null_z[np.isfinite(null_z)])
    for z in null_z:
        own = np.sort(z[np.isfinite(z)])
        above = (values.size - np.searchsorted(values, z, side="left") for values in (pooled, own))
        p = (next(above) - next(above) + 1) / (pooled.size - own.size + 1)
        yield np.where(np.isfinite(z), p, np.nan)


def steiger_p(
    r_first: Array, r_second: Array, r_between: Array, n: NDArray[np.int64]
) -> NDArray[np.float64]:
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

    first, second, between = (
        np.clip(values, -0.999999, 0.999999) for values in (r_first, r_second, r_between)
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
        by_gene = np.where(
            known.any(axis=0), np.nansum(covered, axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
        )
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
