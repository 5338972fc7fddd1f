"""Agreement of predicted and measured expression for each gene.

Arrays are (N, G): N samples (patients or spots) and G genes. Every function returns (G,) values
with NaN where the metric is not defined, because the gene is constant in the truth or in the
prediction, or because there are too few samples. Such a gene never counts as 0 (docs/protocol.md,
section Metrics per gene).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from tcgn_mil.statistics.variation import MIN_VARIANCE_LEFT, rounding_floor, varies
from tcgn_mil.types.arrays import BoolArray, Float64Array, FloatArray, IntArray

MIN_SAMPLES = 3  # two samples always correlate perfectly
_CACHED_VALUES = 2**20  # float64 values of one block of genes: 8 MB, about a core's share of cache
MAX_THREADS = 8


class GeneMetrics(NamedTuple):
    """Metrics of G genes.

    Attributes
    ----------
    pearson, spearman
        (G,) correlation of truth and prediction, in [-1, 1].
    r2
        (G,) 1 - residual sum of squares / total sum of squares, at most 1.
    rmse
        (G,) root mean squared error, in the unit of the values.
    n
        (G,) number of samples used.
    """

    pearson: Float64Array
    spearman: Float64Array
    r2: Float64Array
    rmse: Float64Array
    n: IntArray


def gene_metrics(truth: FloatArray, prediction: FloatArray) -> GeneMetrics:
    """Compute all metrics of each gene.

    Parameters
    ----------
    truth, prediction
        (N, G) without missing values.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1.0], [2.0], [3.0], [4.0]])
    >>> metrics = gene_metrics(truth, truth**2)
    >>> metrics.pearson.round(3), metrics.spearman
    (array([0.984]), array([1.]))
    """
    check_pair(truth, prediction)
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


def pearson(
    truth: FloatArray, prediction: FloatArray, *, without: Float64Array | None = None
) -> Float64Array:
    """Compute the Pearson correlation of each gene.

    Parameters
    ----------
    truth, prediction
        (N, G) without missing values.
    without
        (N, b) orthonormal columns whose span contains the constant vector. Both matrices are
        replaced by their residuals on these columns first. None removes the mean only.

    Returns
    -------
    (G,) float64; NaN where a column does not vary, or does not vary once `without` is removed.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    >>> pearson(truth, np.array([[0.0, 1.0], [3.0, 2.0], [3.0, 3.0]])).round(3)
    array([0.756,   nan])
    """
    check_pair(truth, prediction)
    samples, genes = truth.shape
    r = np.full(genes, np.nan)
    # A few genes at a time, in threads: the copies in double precision then stay in the cache,
    # which is several times faster than one pass over the whole matrix.
    width = max(1, _CACHED_VALUES // max(samples, 1))

    def correlate(start: int) -> None:
        chosen = slice(start, start + width)
        left, left_square, left_varies = _residuals(truth[:, chosen], without)
        right, right_square, right_varies = _residuals(prediction[:, chosen], without)
        with np.errstate(divide="ignore", invalid="ignore"):
            block = np.einsum("sg,sg->g", left, right) / np.sqrt(left_square * right_square)
        r[chosen] = np.where(left_varies & right_varies, np.clip(block, -1, 1), np.nan)

    starts = range(0, genes if samples >= MIN_SAMPLES else 0, width)
    if len(starts) < 2:
        list(map(correlate, starts))
    else:
        from threadpoolctl import threadpool_limits

        # NumPy's linear algebra starts threads of its own, which would compete with these.
        with (
            threadpool_limits(1),
            ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1, MAX_THREADS)) as pool,
        ):
            list(pool.map(correlate, starts))
    return r


def _residuals(
    values: FloatArray, basis: Float64Array | None
) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Return residuals on the basis, their sum of squares, and whether each column still varies."""
    out = values.astype(np.float64)
    largest = np.maximum(out.max(axis=0), -out.min(axis=0))
    out -= out.mean(axis=0)
    total = np.einsum("sg,sg->g", out, out)
    defined = np.sqrt(total / len(out)) > rounding_floor(largest)
    if basis is None:
        return out, total, defined
    out -= basis @ (basis.T @ out)
    remaining = np.einsum("sg,sg->g", out, out)
    return out, remaining, defined & (remaining > MIN_VARIANCE_LEFT * total)


class KnownPairs(NamedTuple):
    """Values of G genes, standardised over the samples that have both values of the gene.

    Attributes
    ----------
    first, second
        (N, G) float64 with mean 0 and mean square 1 over the known samples. 0 where either value is
        missing, and NaN throughout where the gene does not vary.
    known
        (N, G) whether the sample has both values.
    n
        (G,) float64 number of known samples.
    r
        (G,) Pearson correlation over them; NaN where it is not defined.
    """

    first: Float64Array
    second: Float64Array
    known: BoolArray
    n: Float64Array
    r: Float64Array


def standardised_pairs(first: FloatArray, second: FloatArray) -> KnownPairs:
    """Standardise two matrices over the samples that have both values, and correlate them.

    Parameters
    ----------
    first, second
        (N, G) values; NaN where a value is missing.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0], [2.0], [3.0], [5.0], [9.0]])
    >>> y = np.array([[2.0], [1.0], [4.0], [4.0], [np.nan]])
    >>> pairs = standardised_pairs(x, y)
    >>> pairs.r.round(3), pairs.n
    (array([0.748]), array([4.]))
    """
    known = np.isfinite(first) & np.isfinite(second)
    n = known.sum(axis=0).astype(np.float64)
    columns = []
    for values in (first, second):
        centred = np.where(known, values, 0).astype(np.float64)
        size = np.abs(centred).max(axis=0, initial=0)
        centred -= np.where(known, centred.sum(axis=0) / np.maximum(n, 1), 0)
        scale = np.sqrt(np.square(centred).sum(axis=0) / np.maximum(n, 1))
        columns.append(centred / np.where(scale <= rounding_floor(size), np.nan, scale))
    r = np.einsum("ng,ng->g", *columns) / np.maximum(n, 1)
    r = np.where(n >= MIN_SAMPLES, np.clip(r, -1, 1), np.nan)
    return KnownPairs(columns[0], columns[1], known, n, r)


def spearman(truth: FloatArray, prediction: FloatArray) -> Float64Array:
    """Compute the Spearman correlation of each gene: the Pearson correlation of average ranks.

    Parameters
    ----------
    truth, prediction
        (N, G) without missing values.

    Returns
    -------
    (G,) float64, NaN where a column does not vary.

    Examples
    --------
    >>> import numpy as np
    >>> spearman(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [10.0], [5.0]]))
    array([0.5])
    """
    from scipy.stats import rankdata

    check_pair(truth, prediction)
    return pearson(rankdata(truth, axis=0), rankdata(prediction, axis=0))


def median_over_genes(values: FloatArray) -> float:
    """Return the median of the values that are not NaN; NaN if all are."""
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[np.isfinite(defined)]
    return float(np.median(defined)) if defined.size else float("nan")


def check_pair(truth: FloatArray, prediction: FloatArray) -> None:
    """Raise ValueError unless both arrays have the same two-dimensional shape."""
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise ValueError(
            f"truth {truth.shape} and prediction {prediction.shape} must both be (samples, G)"
        )
