"""Harrell's C of risk scores, with pairs counted within folds only, and its bootstrap over patients.

Harrell et al., J. Am. Med. Assoc. 1982. Scores of different folds come from different models and are not comparable
(PROTOCOL, Survival). Ties are lifelines': of two patients with one time, only an event and a censored one are a pair;
equal scores count half. Of late entrants only those under observation at the earlier event make a pair with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.survival.risk_sets import Array

INTERVAL = (2.5, 97.5)  # percentiles


class PairCounts(NamedTuple):
    """Pairs of K scores in W weightings of patients: ``concordant`` (K, W), ties as half, of ``comparable`` (W,)."""

    concordant: Array
    comparable: Array

    @property
    def c(self) -> Array:
        """(K, W) concordance, NaN without a pair."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.concordant / self.comparable)


class Concordance(NamedTuple):
    """C of K scores, each (K,), with its 95 % interval; ``replicates`` (K, B) of the bootstrap, paired over scores."""

    c: Array
    low: Array
    high: Array
    pairs: float
    replicates: Array


def pair_counts(
    time: Array,
    event: NDArray[np.bool_],
    risks: Array,
    groups: NDArray[np.int64],
    *,
    entry: Array | None = None,
    weights: Array | None = None,
) -> PairCounts:
    """Count pairs within groups (folds), for several scores, repeats of the folds, and weightings at once.

    Parameters
    ----------
    time, event, entry
        (M,) each.
    risks
        (K, R, M): higher is worse.
    groups
        (R, M): the fold of each patient in each repeat.
    weights
        (W, M) how often each patient is counted; once if not given.
    """
    counted = np.ones((1, len(time))) if weights is None else weights
    concordant, comparable = np.zeros((len(risks), len(counted))), np.zeros(len(counted))
    for repeat, labels in enumerate(groups):
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            pairs = comparable_pairs(
                time[rows], event[rows], None if entry is None else entry[rows]
            )
            weight = counted[:, rows]
            comparable += np.einsum("wm,wm->w", weight @ pairs, weight)
            for index, risk in enumerate(risks[:, repeat][:, rows]):
                right = pairs * ((risk[:, None] > risk) + 0.5 * (risk[:, None] == risk))
                concordant[index] += np.einsum("wm,wm->w", weight @ right, weight)
    return PairCounts(concordant, comparable)


def comparable_pairs(time: Array, event: NDArray[np.bool_], entry: Array | None = None) -> Array:
    """(M, M) 1 where the row's patient is known to have had the event before the column's."""
    before = (time[:, None] < time) | ((time[:, None] == time) & ~event)
    if entry is not None:
        before &= entry < time[:, None]
    return np.asarray(before & event[:, None], dtype=np.float64)


def concordance(
    time: Array,
    event: NDArray[np.bool_],
    risks: Array,
    groups: NDArray[np.int64],
    *,
    entry: Array | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Concordance:
    """C of K scores with its 95 % percentile interval over patients drawn with replacement; arrays as for counting."""
    observed = pair_counts(time, event, risks, groups, entry=entry)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(
        len(time), np.full(len(time), 1 / len(time)), size=replicates
    ).astype(np.float64)
    resampled = pair_counts(time, event, risks, groups, entry=entry, weights=drawn).c
    low, high = (
        np.nanpercentile(resampled, INTERVAL, axis=1)
        if replicates
        else np.full((2, len(risks)), np.nan)
    )
    return Concordance(observed.c[:, 0], low, high, float(observed.comparable[0]), resampled)
