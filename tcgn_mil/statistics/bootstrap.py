"""Bootstrap intervals of correlations, over patients or over spatial blocks of spots.

See docs/protocol.md, section Metrics per gene. Resampling uses multinomial counts: to draw with
replacement is to weight every patient (or block) by the number of times it was drawn, so that all
replicates are computed together by matrix products.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.statistics.fold_combination import combine_folds, strata
from tcgn_mil.statistics.weighted_correlation import weighted_r
from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray

_GENES_AT_ONCE = 256  # patients
_GENES_OF_SPOTS_AT_ONCE = 200


def patient_bootstrap(
    truth: FloatArray,
    predicted: FloatArray,
    fold_of: IntArray,
    cohort_of: IntArray | None = None,
    *,
    donor_of: IntArray | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Compute the combined r of resampled patients.

    Patients are drawn with replacement within each test fold (and cohort), so that each replicate
    has folds of the same size as the data. In each replicate r is computed within folds and
    combined by Fisher z. A fold in which a gene does not vary in a replicate is left out.

    Parameters
    ----------
    truth, predicted
        (M, G), NaN where a value is missing.
    fold_of
        (M,) test fold of each patient.
    cohort_of
        (M,) cohort of each patient, if there are several.
    donor_of
        (M,) person that each row belongs to, if a person has several rows. The rows of a person
        are drawn together.
    replicates
        Number R of bootstrap replicates.
    seed
        Seed of the draws.

    Returns
    -------
    (R, G) float32.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(60, 1))
    >>> replicates = patient_bootstrap(
    ...     truth, truth + rng.normal(size=(60, 1)), np.arange(60) % 3, replicates=200
    ... )
    >>> low, high = percentile_interval(replicates)
    >>> bool(0.4 < low[0] < 0.7 < high[0] < 0.9)
    True
    """
    rng = np.random.default_rng(seed)
    within = strata(fold_of, cohort_of)
    rows_of = [np.flatnonzero(within.of == stratum) for stratum in range(len(within.fold))]
    counts = [
        _times_drawn(rows if donor_of is None else donor_of[rows], replicates, rng)
        for rows in rows_of
    ]
    out = np.empty((replicates, truth.shape[1]), dtype=np.float32)
    for start in range(0, truth.shape[1], _GENES_AT_ONCE):
        chosen = slice(start, start + _GENES_AT_ONCE)
        r, n = [], []
        for rows, drawn in zip(rows_of, counts, strict=True):
            left, right = truth[rows, chosen], predicted[rows, chosen]
            r.append(weighted_r(left, right, drawn.astype(np.float64)))
            n.append((np.isfinite(left) & np.isfinite(right)).sum(axis=0).astype(np.float64))
        # Replicates and genes become one axis here, since combine_folds treats columns alike.
        combined = combine_folds(
            np.reshape(r, (len(rows_of), -1)), np.tile(n, replicates), fold_of=within.fold
        ).r
        out[:, chosen] = combined.reshape(replicates, -1)
    return out


def _times_drawn(donors: IntArray, replicates: int, rng: np.random.Generator) -> IntArray:
    """Count how often each row is drawn, (R, M); rows of one donor are drawn together."""
    people, donor = np.unique(donors, return_inverse=True)
    return rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=replicates)[
        :, donor
    ]


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
    replicates, seed
        As in :func:`patient_bootstrap`.

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
    for start in range(0, left.shape[1], _GENES_OF_SPOTS_AT_ONCE):
        chosen = slice(start, start + _GENES_OF_SPOTS_AT_ONCE)
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
