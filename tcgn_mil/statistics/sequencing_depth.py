"""Correlation of spots once sequencing depth is removed from truth and prediction.

On sparse spatial transcriptomics, the normalised value of a gene carries the total count of its
spot (the sequencing depth), depth follows tissue density, and any colour statistic sees tissue
density. A predictor that knows no gene therefore has a clearly positive plain r. The headline
metric of this package is computed after depth is regressed out of both sides (docs/protocol.md,
section Metrics per gene).
"""

from __future__ import annotations

import numpy as np

from tcgn_mil.statistics.gene_metrics import MIN_SAMPLES, check_pair, median_over_genes, pearson
from tcgn_mil.types.arrays import Float64Array, FloatArray

DETECTION_FLOOR = 0.2  # the headline is over genes seen in at least this share of the test spots
SPLINE_KNOTS = 5


def depth_basis(log_depth: FloatArray) -> Float64Array:
    """Return cubic spline functions of sequencing depth with 5 knots at quantiles.

    Parameters
    ----------
    log_depth
        (S,) log of each spot's total count.

    Returns
    -------
    (S, 7) float64, whose columns sum to 1 in every row.
    """
    from sklearn.preprocessing import SplineTransformer

    depth = np.asarray(log_depth, dtype=np.float64).reshape(-1, 1)
    return np.asarray(
        SplineTransformer(n_knots=SPLINE_KNOTS, degree=3, knots="quantile").fit_transform(depth)
    )


def depth_projection(log_depth: FloatArray) -> Float64Array:
    """Return orthonormal columns (S, b) that span :func:`depth_basis`.

    With such columns Q, the residuals of values Y on the spline are Y - Q (Q' Y). Fewer than 7
    columns remain where many spots share their depth.
    """
    left, singular, _ = np.linalg.svd(depth_basis(log_depth), full_matrices=False)
    return np.asarray(left[:, singular > 1e-10 * singular[0]])


def residuals_on_depth(values: FloatArray, log_depth: FloatArray) -> Float64Array:
    """Return residuals of each column of `values` (S, G) on the spline of `log_depth` (S,)."""
    basis = depth_projection(log_depth)
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(values - basis @ (basis.T @ values))


def depth_adjusted_pearson(
    truth: FloatArray, prediction: FloatArray, log_depth: FloatArray
) -> Float64Array:
    """Compute the Pearson correlation of each gene in a section, with sequencing depth removed.

    Parameters
    ----------
    truth, prediction
        (S, G) expression of the spots of one section.
    log_depth
        (S,) log of each spot's total count over all measured genes.

    Returns
    -------
    (G,) float64. A predictor that follows depth alone scores about 0, or NaN if it is exactly a
    function of depth.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> depth = rng.normal(size=300)
    >>> truth = (depth + 0.2 * rng.normal(size=300))[:, None]
    >>> follows_depth = (depth + 0.2 * rng.normal(size=300))[:, None]
    >>> pearson(truth, follows_depth).round(1)
    array([1.])
    >>> bool(abs(depth_adjusted_pearson(truth, follows_depth, depth)[0]) < 0.2)
    True
    """
    check_pair(truth, prediction)
    if len(truth) < MIN_SAMPLES:
        return np.full(truth.shape[1], np.nan)
    return pearson(truth, prediction, without=depth_projection(log_depth))


def headline(depth_adjusted: FloatArray, detection: FloatArray) -> float:
    """Return the median depth-adjusted r over the genes that are seen often enough.

    Parameters
    ----------
    depth_adjusted
        (G,) correlations as :func:`depth_adjusted_pearson` gives them.
    detection
        (G,) share of the test spots in which each gene has a count; at least 20 % are asked for.
    """
    return median_over_genes(np.asarray(depth_adjusted)[np.asarray(detection) >= DETECTION_FLOOR])
