"""Sums over the patients at risk at each event, from which all Cox quantities are computed.

A patient is at risk at time t if observation began before t and ended at t or later (left
truncation, as in lifelines and in R's survival package). Ties are handled by Efron's method (J. Am.
Stat. Assoc. 1977).
"""

from __future__ import annotations

import numpy as np

from tcgn_mil.types.arrays import BoolArray, Float64Array, IntArray


class RiskSets:
    """The E events of M patients in order of time, and sums over the patients at risk.

    Parameters
    ----------
    time
        (M,) time of the event or of censoring.
    event
        (M,) whether the event was observed.
    entry
        (M,) time at which observation began; None if all patients are observed from 0.

    Attributes
    ----------
    rows
        (E,) int64, the patient of each event.
    fraction
        (E,) l / d for the l-th (from 0) of d events at one time.

    Examples
    --------
    >>> import numpy as np
    >>> risk = RiskSets(np.array([5.0, 3.0, 8.0]), np.array([True, True, False]))
    >>> risk.rows.tolist(), risk.at_risk(np.ones(3)).tolist()
    ([1, 0], [3.0, 2.0])
    """

    # With patients in order of time, those who leave at t or later are the rows from some row on,
    # and a sum over them is a tail sum: one cumulative sum serves all events. With late entry, the
    # patients who enter at t or later must be subtracted. They all leave after t, so that
    #     sum over {entry < t <= time} = sum over {time >= t} - sum over {entry >= t},
    # which is a second tail sum, over patients in order of entry.
    #
    # Efron's method takes d tied events as if they occurred one after the other, in every order
    # with the same probability. On average the l-th of them (from 0) sees the sum over those at
    # risk minus l / d of the sum over the tied patients.

    def __init__(
        self, time: Float64Array, event: BoolArray, entry: Float64Array | None = None
    ) -> None:
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
        self._late_order: IntArray | None = None
        if entry is not None:
            self._late_order = np.argsort(entry, kind="stable")
            self._late = np.searchsorted(entry[self._late_order], times, side="left")

    def __len__(self) -> int:
        return len(self.rows)

    def at_risk(self, values: Float64Array) -> Float64Array:
        """Return the sum of `values` (M, ...) over the patients at risk at each event, (E, ...)."""
        sums = _tail_sums(values[self._order], self._first)
        if self._late_order is not None:
            sums = sums - _tail_sums(values[self._late_order], self._late)
        return sums

    def tied(self, values: Float64Array) -> Float64Array:
        """Return the sum of `values` (M, ...) over the events tied with each event, (E, ...)."""
        return np.asarray(np.add.reduceat(values[self.rows], self._tie_start, axis=0)[self._tie])

    def efron(self, values: Float64Array) -> Float64Array:
        """Return the sum of `values` over those at risk minus Efron's share of ties, (E, ...)."""
        sums = self.at_risk(values)
        if not self._tied:
            return sums
        fraction = self.fraction.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(sums - fraction * self.tied(values))

    def log_likelihood(self, linear_predictor: Float64Array) -> Float64Array:
        """Compute Cox's partial log-likelihood of each of K linear predictors (M, K), as (K,)."""
        if not len(self):
            return np.zeros(linear_predictor.shape[1])
        # The likelihood does not change if a constant is added to all predictors. The largest
        # becomes 0, so that exp cannot overflow.
        shifted = linear_predictor - linear_predictor.max(axis=0)
        return np.asarray((shifted[self.rows] - np.log(self.efron(np.exp(shifted)))).sum(axis=0))


def _tail_sums(ordered: Float64Array, first: IntArray) -> Float64Array:
    """Return the sums of `ordered` (M, ...) from each row of `first` (E,) on; 0 from row M."""
    padded = np.zeros((len(ordered) + 1, *ordered.shape[1:]))
    np.cumsum(ordered[::-1], axis=0, out=padded[-2::-1])
    return np.asarray(padded[first])
