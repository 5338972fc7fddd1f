"""Per-gene agreement of prediction and truth, vectorised over genes.

Arrays are (samples, G) float; every function returns (G,) float64 with NaN where a gene has no answer (constant in
truth or prediction, or too few samples), never 0.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FLAT = 1e-10
Array = NDArray[np.floating]
_MIN_SAMPLES = 3
FOLD_NULL_SD = (
    2**0.5
)  # of a combined z under the null, where nothing is refitted (PROTOCOL): folds inform each other
_EXPLAINED = 1e-5  # of a column's spread is left once depth is out: it was a function of depth
_RELATIVE_SPREAD_FLOOR = 1e-7  # float32 rounding of a constant column; smaller spread is no signal
DETECTION_FLOOR = 0.2  # the headline is over genes seen in at least this share of the test spots
SPLINE_KNOTS = 5
_CACHED_VALUES, _MOST_THREADS = 2**20, 8


class GeneMetrics(NamedTuple):
    """Per-gene results, each (G,).

    ``pearson``, ``spearman`` in [-1, 1]; ``r2`` at most 1; ``rmse`` in the unit of the values; ``n`` samples used.
    """

    pearson: NDArray[np.float64]
    spearman: NDArray[np.float64]
    r2: NDArray[np.float64]
    rmse: NDArray[np.float64]
    n: NDArray[np.int64]


def gene_metrics(truth: Array, prediction: Array) -> GeneMetrics:
    """All metrics for ``truth`` and ``prediction`` of shape (samples, G) without missing values."""
    _check_pair(truth, prediction)
    samples, genes = truth.shape
    residual = truth.astype(np.float64) - prediction
    total = np.square(truth - truth.mean(axis=0, dtype=np.float64)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(varies(truth), 1 - np.square(residual).sum(axis=0) / total, np.nan)
    return GeneMetrics(
        pearson=pearson(truth, prediction),
        spearman=spearman(truth, prediction),
        r2=r2,
        rmse=np.sqrt(np.square(residual).mean(axis=0)),
        n=np.full(genes, samples, dtype=np.int64),
    )


def pearson(truth: Array, prediction: Array) -> NDArray[np.float64]:
    """Pearson r per gene, (G,)."""
    return _correlate(truth, prediction, None)


def _correlate(
    truth: Array, prediction: Array, basis: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Pearson r once the columns of an orthonormal `basis` (S, b), whose span holds the constant, are taken out.

    A few genes at a time, in threads, so that copies in double precision stay in the cache.
    """
    _check_pair(truth, prediction)
    samples, genes = truth.shape
    r = np.full(genes, np.nan)
    width = max(1, _CACHED_VALUES // max(samples, 1))

    def correlate(start: int) -> None:
        chosen = slice(start, start + width)
        left, left_left, left_known = _residuals(truth[:, chosen], basis)
        right, right_right, right_known = _residuals(prediction[:, chosen], basis)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.einsum("sg,sg->g", left, right) / np.sqrt(left_left * right_right)
        r[chosen] = np.where(left_known & right_known, np.clip(found, -1, 1), np.nan)

    starts = range(0, genes if samples >= _MIN_SAMPLES else 0, width)
    if len(starts) < 2:
        list(map(correlate, starts))
    else:
        from threadpoolctl import threadpool_limits

        # The linear algebra's own threads would be in the way of these.
        with (
            threadpool_limits(1),
            ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1, _MOST_THREADS)) as pool,
        ):
            list(pool.map(correlate, starts))
    return r


def _residuals(
    values: Array, basis: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Residuals on the basis, or the mean; their sum of squares; whether a column varies and some of it is left."""
    out = values.astype(np.float64)
    scale = np.maximum(out.max(axis=0), -out.min(axis=0))
    out -= out.mean(axis=0)
    total = np.einsum("sg,sg->g", out, out)
    known = np.sqrt(total / len(out)) > _RELATIVE_SPREAD_FLOOR * np.maximum(
        scale, np.finfo(np.float32).tiny
    )
    if basis is None:
        return out, total, known
    out -= basis @ (basis.T @ out)
    left = np.einsum("sg,sg->g", out, out)
    return out, left, known & (left > np.square(_EXPLAINED) * total)


def spearman(truth: Array, prediction: Array) -> NDArray[np.float64]:
    """Spearman r per gene, (G,): Pearson of average ranks."""
    from scipy.stats import rankdata

    _check_pair(truth, prediction)
    return pearson(rankdata(truth, axis=0), rankdata(prediction, axis=0))


def depth_basis(log_depth: Array) -> NDArray[np.float64]:
    """(S, 7) cubic spline of `log_depth` (S,) with 5 quantile knots; its columns span the constant."""
    from sklearn.preprocessing import SplineTransformer

    depth = np.asarray(log_depth, dtype=np.float64).reshape(-1, 1)
    return np.asarray(
        SplineTransformer(n_knots=SPLINE_KNOTS, degree=3, knots="quantile").fit_transform(depth)
    )


def depth_projection(log_depth: Array) -> NDArray[np.float64]:
    """(S, b) orthonormal columns that span :func:`depth_basis`."""
    left, singular, _ = np.linalg.svd(depth_basis(log_depth), full_matrices=False)
    return np.asarray(left[:, singular > 1e-10 * singular[0]])


def residuals_on_depth(values: Array, log_depth: Array) -> NDArray[np.float64]:
    """Residuals of each column of `values` (S, G) on a cubic spline of `log_depth` (S,) with 5 quantile knots."""
    basis = depth_projection(log_depth)
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(values - basis @ (basis.T @ values))


def depth_adjusted_pearson(
    truth: Array, prediction: Array, log_depth: Array
) -> NDArray[np.float64]:
    """Pearson r within one section after taking sequencing depth out of truth and prediction, (G,).

    `log_depth` (S,) is the log of each spot's total count. A predictor that follows depth alone scores about 0, or has
    no r where it is a function of depth.
    """
    _check_pair(truth, prediction)
    if len(truth) < _MIN_SAMPLES:
        return np.full(truth.shape[1], np.nan)
    return _correlate(truth, prediction, depth_projection(log_depth))


def headline(depth_adjusted: Array, detection: Array) -> float:
    """Median depth-adjusted r over genes with `detection` (share of test spots with a count) of at least 20 %."""
    return median_over_genes(np.asarray(depth_adjusted)[np.asarray(detection) >= DETECTION_FLOOR])


def median_over_genes(values: Array) -> float:
    """Median of the genes that have an answer; NaN where none has."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(np.median(known)) if known.size else float("nan")


class CombinedR(NamedTuple):
    """Fold-wise r combined over folds, each (G,): ``r``, its Fisher ``z`` (NaN where too few folds), ``folds`` used."""

    r: NDArray[np.float64]
    z: NDArray[np.float64]
    folds: NDArray[np.int64]


def combine_folds(
    r: Array, n: Array, *, min_folds: int = 3, fold_of: NDArray[np.int64] | None = None
) -> CombinedR:
    """Combine per-fold correlations by Fisher z weighted by n - 3.

    Parameters
    ----------
    r
        (folds, G), NaN where a gene has none in a fold.
    n
        (folds,) or (folds, G) test samples; folds with n <= 3 carry no weight.
    min_folds
        Genes with an answer in fewer folds are NaN.
    fold_of
        (folds,) fold of each row, where a fold has several rows (cohorts), all of which count as one.
    """
    r = np.asarray(r, dtype=np.float64)
    weight = np.maximum(
        np.broadcast_to(np.asarray(n, dtype=np.float64).reshape(len(r), -1), r.shape) - 3, 0
    )
    usable = np.isfinite(r) & (weight > 0)
    weight = np.where(usable, weight, 0)
    fisher = np.arctanh(np.clip(np.where(usable, r, 0), -0.999999, 0.999999))
    rows = np.arange(len(r)) if fold_of is None else fold_of
    folds = np.sum([usable[rows == fold].any(axis=0) for fold in np.unique(rows)], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weight * fisher).sum(axis=0) / weight.sum(axis=0)
    enough = folds >= min_folds
    return CombinedR(
        r=np.where(enough, np.tanh(mean), np.nan),
        z=np.where(enough, mean * np.sqrt(weight.sum(axis=0)), np.nan),
        folds=folds.astype(np.int64),
    )


def benjamini_hochberg(p: Array, tested: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """q (Benjamini & Hochberg, J R Stat Soc B 1995) over the p known, and `tested` if given; NaN for others."""
    from scipy.stats import false_discovery_control

    p = np.asarray(p, dtype=np.float64)
    q = np.full(p.shape, np.nan)
    known = np.isfinite(p) if tested is None else np.isfinite(p) & tested
    if known.any():
        q[known] = false_discovery_control(p[known])
    return q


def spread(values: Array) -> NDArray[np.float64]:
    """Standard deviation of each column, (G,) float64."""
    return np.asarray(values, dtype=np.float64).std(axis=0)


def varies(values: Array) -> NDArray[np.bool_]:
    """Whether each column differs from a constant by more than rounding, (G,)."""
    scale = np.abs(values).max(axis=0, initial=0)
    return spread(values) > _RELATIVE_SPREAD_FLOOR * np.maximum(scale, np.finfo(np.float32).tiny)


def _check_pair(truth: Array, prediction: Array) -> None:
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape} must both be (samples, G)"
        )


def weighted_r(first: Array, second: Array, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, G) Pearson r under each row of weights (R, M), over the patients that have both values."""
    known = np.isfinite(first) & np.isfinite(second)
    n = np.maximum(known.sum(axis=0), 1)
    columns = []
    for values in (first, second):
        centred = np.where(known, values - np.where(known, values, 0).sum(axis=0) / n, 0)
        scale = np.sqrt(np.square(centred).sum(axis=0) / n)
        size = np.abs(np.where(known, values, 0)).max(axis=0, initial=0)
        constant = scale <= 1e-7 * np.maximum(size, np.finfo(np.float32).tiny)
        columns.append(centred / np.where(constant, np.nan, scale))
    x, y = columns
    with np.errstate(divide="ignore", invalid="ignore"):
        total = weights @ known
        mean_x, mean_y = weights @ x / total, weights @ y / total
        left, right = weights @ (x * x) / total - mean_x**2, weights @ (y * y) / total - mean_y**2
        r = (weights @ (x * y) / total - mean_x * mean_y) / np.sqrt(left * right)
    return np.where((left > _FLAT) & (right > _FLAT), np.clip(r, -1, 1), np.nan)
