"""Conformal prediction intervals for new patients, from out-of-fold residuals.

See docs/protocol.md, section Uncertainty.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray


class ConformalBounds(NamedTuple):
    """Symmetric prediction intervals of G genes, and the coverage measured by cross-validation.

    Attributes
    ----------
    half_width
        (G,) half width of the interval around a prediction, in the unit of the values.
    coverage
        Share of patients and genes whose truth lies within the interval.
    coverage_by_gene
        (G,) the same share for each gene.
    covered
        (M, G) 1 where the truth lies within the interval, 0 where it does not, and NaN where there
        is no truth or no interval.
    """

    half_width: Float64Array
    coverage: float
    coverage_by_gene: Float64Array
    covered: Float64Array


def conformal_bounds(
    truth: FloatArray, predicted: FloatArray, fold_of: IntArray, *, stated_coverage: float = 0.9
) -> ConformalBounds:
    """Compute split-conformal intervals from absolute out-of-fold residuals.

    Parameters
    ----------
    truth, predicted
        (M, G) values of M patients, NaN where a value is missing.
    fold_of
        (M,) test fold of each patient. The coverage of the patients of a fold is measured with
        intervals from the other folds.
    stated_coverage
        Coverage that the intervals are made for, between 0 and 1.

    Returns
    -------
    Bounds that are NaN for a gene with too few patients: no finite interval then has the stated
    coverage.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(200, 1))
    >>> bounds = conformal_bounds(truth, 0 * truth, np.arange(200) % 5)
    >>> round(float(bounds.half_width[0]), 2), round(bounds.coverage, 2)
    (1.51, 0.91)
    """
    residual = np.abs(np.asarray(truth, dtype=np.float64) - predicted)
    covered = np.full(residual.shape, np.nan)
    for fold in np.unique(fold_of):
        inside = fold_of == fold
        width = _conformal_quantile(residual[~inside], stated_coverage)
        covered[inside] = np.where(
            np.isfinite(residual[inside]) & np.isfinite(width), residual[inside] <= width, np.nan
        )
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(covered)
        by_gene = np.where(
            finite.any(axis=0),
            np.nansum(covered, axis=0) / np.maximum(finite.sum(axis=0), 1),
            np.nan,
        )
    coverage = float(covered[finite].mean()) if finite.any() else float("nan")
    width = _conformal_quantile(residual, stated_coverage)
    return ConformalBounds(width, coverage, by_gene, covered)


def _conformal_quantile(residual: FloatArray, stated_coverage: float) -> Float64Array:
    # If the n calibration residuals and the new one are exchangeable, the new one is equally likely
    # to take any of the n + 1 ranks. The ceil((n + 1) * stated_coverage)-th smallest calibration
    # residual is therefore at least as large as the new residual with probability `stated_coverage`
    # or more. If that rank is above n, only an infinite interval would do: the gene has no bound.
    if not len(residual):
        return np.full(residual.shape[1], np.nan)
    ordered = np.sort(residual, axis=0)  # NaN last
    n = np.isfinite(residual).sum(axis=0)
    rank = np.ceil((n + 1) * stated_coverage).astype(np.int64)
    bound = np.take_along_axis(ordered, np.clip(rank - 1, 0, len(ordered) - 1)[None], axis=0)[0]
    return np.where((rank <= n) & (n > 0), bound, np.nan)
