"""Statistics over patients, out of fold: intervals, p-values from refitted nulls, Steiger's test, conformal bounds.

See PROTOCOL: Metrics, What counts as predictable, Uncertainty.

Arrays are (M, G): M patients, G genes. r is taken within each test fold and combined over folds by Fisher z, since r
over pooled folds is biased (a patient's absence from training shifts its fold's mean away from it).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.statistics.gene_metrics import combine_folds, weighted_r

Array = NDArray[np.floating]
_GENES_AT_ONCE = 256


class Strata(NamedTuple):
    """Patients whose values can be compared: those of a test fold and, where there are several, a cohort.

    Attributes
    ----------
    of
        (M,) number of each patient's stratum.
    fold
        (S,) fold of each stratum.
    """

    of: NDArray[np.int64]
    fold: NDArray[np.int64]


def strata(fold_of: NDArray[np.int64], cohort_of: NDArray[np.int64] | None = None) -> Strata:
    """Strata of patients by fold (M,) and cohort (M,), in order of fold, then cohort."""
    pairs = np.stack([fold_of, np.zeros_like(fold_of) if cohort_of is None else cohort_of], axis=1)
    found, of = np.unique(pairs, axis=0, return_inverse=True)
    return Strata(of.reshape(-1), found[:, 0])


def patient_bootstrap(
    truth: Array,
    predicted: Array,
    fold_of: NDArray[np.int64],
    cohort_of: NDArray[np.int64] | None = None,
    *,
    donor_of: NDArray[np.int64] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Combined r of resampled patients, (R, G) float32; patients are drawn with replacement within each fold.

    A draw in which a gene does not vary in a fold leaves that fold out.

    Parameters
    ----------
    cohort_of
        (M,) as in :func:`combined_r`: patients are drawn within fold and cohort.
    donor_of
        (M,) person that each row is of; those of one are drawn together.
    """
    rng = np.random.default_rng(seed)
    within = strata(fold_of, cohort_of)
    folds = [np.flatnonzero(within.of == stratum) for stratum in range(len(within.fold))]
    counts = [
        _drawn(rows if donor_of is None else donor_of[rows], replicates, rng) for rows in folds
    ]
    out = np.empty((replicates, truth.shape[1]), dtype=np.float32)
    for start in range(0, truth.shape[1], _GENES_AT_ONCE):
        chosen = slice(start, start + _GENES_AT_ONCE)
        r, n = [], []
        for rows, drawn in zip(folds, counts, strict=True):
            left, right = truth[rows, chosen], predicted[rows, chosen]
            r.append(weighted_r(left, right, drawn.astype(np.float64)))
            n.append((np.isfinite(left) & np.isfinite(right)).sum(axis=0).astype(np.float64))
        combined = combine_folds(
            np.reshape(r, (len(folds), -1)), np.tile(n, replicates), fold_of=within.fold
        ).r
        out[:, chosen] = combined.reshape(replicates, -1)
    return out


def _drawn(
    donors: NDArray[np.int64], replicates: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """(R, M) how often each row is drawn, rows of one donor together."""
    people, donor = np.unique(donors, return_inverse=True)
    return rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=replicates)[
        :, donor
    ]


_CHUNK = 200


def block_bootstrap(
    truth: Array,
    prediction: Array,
    blocks: NDArray[np.int64],
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> NDArray[np.float32]:
    """(R, G) correlations over resampled blocks: as many as there are, drawn with replacement.

    Parameters
    ----------
    truth, prediction
        (S, G), depth already taken out.
    blocks
        (S,) as :func:`spatial_blocks` gives them; draws from a block take all its spots.

    Returns
    -------
    float32, NaN where a replicate is constant.
    """
    members = np.eye(int(blocks.max()) + 1)[blocks]  # (S, blocks)
    drawn = np.random.default_rng(seed).multinomial(
        members.shape[1], [1 / members.shape[1]] * members.shape[1], replicates
    )
    weights = drawn @ members.T
    weights = weights / weights.sum(axis=1, keepdims=True)
    left, right = (
        np.asarray(v, dtype=np.float64) - np.mean(v, axis=0) for v in (truth, prediction)
    )
    out = np.empty((replicates, left.shape[1]), dtype=np.float32)
    for start in range(0, left.shape[1], _CHUNK):
        x, y = left[:, start : start + _CHUNK], right[:, start : start + _CHUNK]
        mean_x, mean_y = weights @ x, weights @ y
        with np.errstate(divide="ignore", invalid="ignore"):
            r = (weights @ (x * y) - mean_x * mean_y) / np.sqrt(
                (weights @ (x * x) - mean_x**2) * (weights @ (y * y) - mean_y**2)
            )
        out[:, start : start + _CHUNK] = np.where(np.isfinite(r), np.clip(r, -1, 1), np.nan)
    return out


def percentile_interval(
    replicates: Array, *, coverage: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bound over the first axis, NaN where no replicate has a value."""
    tail = 100 * (1 - coverage) / 2
    known = np.isfinite(replicates).any(axis=0)
    filled = np.where(known, replicates, 0)
    low, high = np.nanpercentile(filled, [tail, 100 - tail], axis=0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)
