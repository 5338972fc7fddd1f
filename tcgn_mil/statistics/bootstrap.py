"""Bootstrap intervals of correlations over spatial blocks of spots.

See docs/protocol.md, section Metrics per gene. Resampling uses multinomial counts: to draw with
replacement is to weight every block by the number of times it was drawn, so that all replicates are
computed together by matrix products. Intervals over patients are in
:mod:`tcgn_mil.statistics.jackknife`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray

_GENES_AT_ONCE = 200


def block_bootstrap(
    truth: FloatArray,
    prediction: FloatArray,
    blocks: IntArray,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Compute the correlation of each gene over resampled spatial blocks of spots.

    Neighbouring spots are alike, so single spots must not be resampled. Whole blocks are drawn
    with replacement, as many as there are.

    Parameters
    ----------
    truth, prediction
        (S, G) expression with depth already removed.
    blocks
        (S,) block of each spot, as :func:`tcgn_mil.statistics.spatial.spatial_blocks` gives them.
    replicates
        Number R of bootstrap replicates.
    seed
        Seed of the draws.

    Returns
    -------
    (R, G) float32, NaN where a gene is constant in a replicate.
    """
    members = np.eye(int(blocks.max()) + 1)[blocks]  # (S, blocks)
    drawn = np.random.default_rng(seed).multinomial(
        members.shape[1], [1 / members.shape[1]] * members.shape[1], replicates
    )
    weights = drawn @ members.T  # (R, S)
    weights = weights / weights.sum(axis=1, keepdims=True)
    left, right = (
        np.asarray(v, dtype=np.float64) - np.mean(v, axis=0) for v in (truth, prediction)
    )
    out = np.empty((replicates, left.shape[1]), dtype=np.float32)
    for start in range(0, left.shape[1], _GENES_AT_ONCE):
        chosen = slice(start, start + _GENES_AT_ONCE)
        x, y = left[:, chosen], right[:, chosen]
        mean_x, mean_y = weights @ x, weights @ y
        with np.errstate(divide="ignore", invalid="ignore"):
            r = (weights @ (x * y) - mean_x * mean_y) / np.sqrt(
                (weights @ (x * x) - mean_x**2) * (weights @ (y * y) - mean_y**2)
            )
        out[:, chosen] = np.where(np.isfinite(r), np.clip(r, -1, 1), np.nan)
    return out


def percentile_interval(
    replicates: FloatArray, *, coverage: float = 0.95
) -> tuple[Float64Array, Float64Array]:
    """Return the lower and upper percentile bound over the first axis of bootstrap replicates.

    Parameters
    ----------
    replicates
        (R, ...) values, NaN where a replicate has none.
    coverage
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    Two arrays of the shape of one replicate; NaN where no replicate has a value.
    """
    tail = 100 * (1 - coverage) / 2
    finite = np.isfinite(replicates).any(axis=0)
    filled = np.where(finite, replicates, 0)  # nanpercentile warns of columns that are all NaN
    low, high = np.nanpercentile(filled, [tail, 100 - tail], axis=0)
    return np.where(finite, low, np.nan), np.where(finite, high, np.nan)
