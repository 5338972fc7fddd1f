"""Who is at risk at each event, and sums over them: what every Cox quantity is made of.

A patient is at risk at time t if observation began before t and ended at t or later (left truncation as in lifelines
and R). Ties are Efron's (J. Am. Stat. Assoc. 1977): of d events at one time, the l-th sees the d reduced by l / d.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class RiskSets:
    """The E events of M patients in order of time, and sums over those at risk.

    Parameters
    ----------
    time, event
        (M,) times, and whether the event was seen.
    entry
        (M,) when observation began; None where all begin at 0.

    Attributes
    ----------
    rows
        (E,) int64, the patient of each event.
    fraction
        (E,) Efron's l / d.
    """

    def __init__(self, time: Array, event: NDArray[np.bool_], entry: Array | None = None) -> None:
        self._order = np.argsort(time, kind="stable")
        self.rows = self._order[event[self._order]]
        times = time[self.rows]
        self._first = np.searchsorted(time[self._order], times, side="left")
        _, start, self._tie, size = np.unique(
            times, return_index=True, return_inverse=True, return_counts=True
        )
        self._tie_start = start
        self.fraction = (np.arange(len(times)) - start[self._tie]) / size[self._tie]
        self._tied = bool((size > 1).any())
        self._late_order: NDArray[np.int64] | None = None
        if entry is not None:
            self._late_order = np.argsort(entry, kind="stable")
            self._late = np.searchsorted(entry[self._late_order], times, side="left")

    def __len__(self) -> int:
        return len(self.rows)

    def at_risk(self, values: Array) -> Array:
        """(M, ...) -> (E, ...): the sum over all at risk at each event."""
        found = _tail_sums(values[self._order], self._first)
        if self._late_order is not None:
            found = found - _tail_sums(values[self._late_order], self._late)
        return found

    def tied(self, values: Array) -> Array:
        """(M, ...) -> (E, ...): the sum over the events at the same time."""
        return np.asarray(np.add.reduceat(values[self.rows], self._tie_start, axis=0)[self._tie])

    def efron(self, values: Array) -> Array:
        """(M, ...) -> (E, ...): the sum over those at risk, less the share of tied events."""
        found = self.at_risk(values)
        if not self._tied:
            return found
        fraction = self.fraction.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(found - fraction * self.tied(values))

    def log_likelihood(self, linear_predictor: Array) -> Array:
        """Cox's partial log-likelihood of each column of (M, K) linear predictors, (K,)."""
        if not len(self):
            return np.zeros(linear_predictor.shape[1])
        shifted = linear_predictor - linear_predictor.max(axis=0)
        return np.asarray((shifted[self.rows] - np.log(self.efron(np.exp(shifted)))).sum(axis=0))


def _tail_sums(ordered: Array, first: NDArray[np.int64]) -> Array:
    """Sums of `ordered` (M, ...) from row `first` (E,) on; nothing from row M."""
    padded = np.zeros((len(ordered) + 1, *ordered.shape[1:]))
    np.cumsum(ordered[::-1], axis=0, out=padded[-2::-1])
    return np.asarray(padded[first])
