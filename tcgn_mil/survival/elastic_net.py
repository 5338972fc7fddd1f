"""Cox regression with an elastic-net penalty, along a path of penalties.

The objective is that of Simon et al. (J. Stat. Softw. 2011), to be maximised over the coefficients
b, with Breslow's method for ties:

    log-likelihood / M - penalty * (l1_ratio * |b|_1 + (1 - l1_ratio) / 2 * |b|_2^2).

scikit-survival's solver does not allow for late entry. With entry times the same objective is
solved here by Newton steps over the few features that have a coefficient.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from tcgn_mil.types.arrays import Float64Array, IntArray
from tcgn_mil.types.outcomes import SurvivalTable

_NEWTON_STEPS = 50
_TOLERANCE = 1e-7
_HALVINGS = 30
_ROUNDS = 1000  # of the active-set search, which takes a few


def penalty_path(
    x: Float64Array, table: SurvivalTable, *, l1_ratio: float, count: int, smallest: float
) -> Float64Array:
    """Return the penalties to try, from the largest to the smallest.

    Parameters
    ----------
    x
        (M, D) standardised features.
    table
        Survival times of the M patients.
    l1_ratio
        Share of the lasso penalty, above 0 and at most 1.
    count
        Number of penalties.
    smallest
        Last penalty as a share of the first one.

    Returns
    -------
    (count,) in geometric progression. The first one is the smallest penalty with which every
    coefficient is 0.
    """
    # All coefficients are 0 as long as the gradient of the log-likelihood at 0, divided by M, is
    # nowhere larger than penalty * l1_ratio.
    gradient = _BreslowSets(table).derivatives(np.zeros(len(x)))[0]
    largest = np.abs(x.T @ gradient).max(initial=0) / len(x) / l1_ratio
    return np.asarray(np.geomspace(largest, smallest * largest, count))


def elastic_net_path(
    x: Float64Array, table: SurvivalTable, *, l1_ratio: float, penalty: Float64Array
) -> Float64Array:
    """Compute the coefficients at each penalty of a path.

    Parameters
    ----------
    x, table, l1_ratio
        As in :func:`penalty_path`.
    penalty
        (count,) penalties in descending order, from :func:`penalty_path`.

    Returns
    -------
    (D, count) coefficients.
    """
    if table.entry_days is not None:
        return _path_with_late_entry(x, table, l1_ratio, penalty)
    from sksurv.linear_model import CoxnetSurvivalAnalysis
    from sksurv.util import Surv

    model = CoxnetSurvivalAnalysis(alphas=penalty, l1_ratio=l1_ratio, tol=_TOLERANCE)
    with warnings.catch_warnings():
        # It warns that all coefficients are 0 at the largest penalty, which is intended.
        warnings.simplefilter("ignore")
        model.fit(x, Surv.from_arrays(table.event, table.time_days))
    # The solver stops early once a smaller penalty explains no more; its last coefficients are then
    # those of all smaller penalties.
    path = np.zeros((x.shape[1], len(penalty)))
    path[:, : model.coef_.shape[1]] = model.coef_
    path[:, model.coef_.shape[1] :] = model.coef_[:, -1:]
    return path


def _path_with_late_entry(
    x: Float64Array, table: SurvivalTable, l1_ratio: float, penalty: Float64Array
) -> Float64Array:
    """Compute the path by Newton steps, each penalty starting from the solution before it.

    Few features have a coefficient, and the steps are taken on these and on the likely ones: a
    feature is unlikely to enter if its gradient was below twice the new threshold minus the old one
    (the sequential strong rule of Tibshirani et al., J. R. Stat. Soc. B 2012). The rule can fail,
    so that all gradients are checked at the end, and features that break it are added.
    """
    sets = _BreslowSets(table)
    beta, path = np.zeros(x.shape[1]), np.zeros((x.shape[1], len(penalty)))
    gradient = np.abs(x.T @ sets.derivatives(x @ beta)[0]) / len(x)
    threshold_before = float(gradient.max(initial=0))
    for index, strength in enumerate(penalty):
        threshold = strength * l1_ratio
        likely = gradient >= 2 * threshold - min(threshold_before, 2 * threshold)
        while True:
            chosen = np.flatnonzero(likely | (beta != 0))
            penalties = _Penalties(threshold, strength * (1 - l1_ratio))
            beta[chosen] = _newton_steps(x[:, chosen], sets, penalties, beta[chosen])
            gradient = np.abs(x.T @ sets.derivatives(x @ beta)[0]) / len(x)
            broken = gradient > threshold * (1 + 1e-6) + 1e-12
            broken[chosen] = False
            if not broken.any():
                break
            likely |= broken
        threshold_before = threshold
        path[:, index] = beta
    return path


class _Penalties(NamedTuple):
    """Factors of |b|_1 and of |b|_2^2 / 2 in the objective."""

    lasso: float
    ridge: float

    def of(self, beta: Float64Array) -> float:
        """Return the penalty of some coefficients."""
        return float(self.lasso * np.abs(beta).sum() + self.ridge / 2 * (beta @ beta))


def _newton_steps(
    x: Float64Array, sets: _BreslowSets, penalties: _Penalties, beta: Float64Array
) -> Float64Array:
    """Maximise the objective over the coefficients of some features.

    The log-likelihood is approximated by the quadratic function with its gradient and its Hessian,
    whose maximum with the penalty is the next step. Steps that do not gain are halved.
    """
    value = sets.log_likelihood(x @ beta) / len(x) - penalties.of(beta)
    for _ in range(_NEWTON_STEPS):
        predictor = x @ beta
        gradient = x.T @ sets.derivatives(predictor)[0] / len(x)
        information = sets.information(predictor, x) / len(x)
        target = _quadratic_minimum(information, gradient + information @ beta, penalties, beta)
        step = target - beta
        for _ in range(_HALVINGS):
            tried = sets.log_likelihood(x @ (beta + step)) / len(x) - penalties.of(beta + step)
            if tried >= value - 1e-12 * abs(value):
                break
            step = step / 2
        else:
            return beta
        beta, value = beta + step, tried
        if np.abs(step).max(initial=0) < _TOLERANCE:
            break
    return beta


def _quadratic_minimum(
    information: Float64Array, linear: Float64Array, penalties: _Penalties, start: Float64Array
) -> Float64Array:
    """Minimise b' I b / 2 - linear' b plus the penalties, exactly, by an active set.

    With the signs of the coefficients given, the minimum is that of a linear system. Signs are
    taken from the coefficients, and for those at 0 from their gradient if it exceeds the lasso
    penalty. A coefficient that would change its sign stops at 0 and leaves the set (feature-sign
    search, Lee et al., NeurIPS 2006). Every round lowers the objective, so that the search ends.
    """
    # The smallest ridge keeps the system solvable if features are as many as patients.
    ridge = penalties.ridge + 1e-10 * max(float(np.diag(information).max(initial=0)), 1e-300)
    system = information + ridge * np.eye(len(linear))
    beta, fresh = start.copy(), True
    sign = np.sign(beta)
    for _ in range(_ROUNDS):
        if fresh:
            slope = linear - system @ beta
            entering = (beta == 0) & (np.abs(slope) > penalties.lasso * (1 + 1e-9))
            sign = np.where(entering, np.sign(slope), np.sign(beta))
        active = np.flatnonzero(sign)
        if not len(active):
            return beta
        factor = cho_factor(system[np.ix_(active, active)], lower=True, check_finite=False)
        goal = np.zeros_like(beta)
        goal[active] = cho_solve(
            factor, linear[active] - penalties.lasso * sign[active], check_finite=False
        )
        wrong = goal * sign < 0
        if (wrong & (beta == 0)).any():
            # A feature that has just entered moves against its gradient: it stays out.
            sign[wrong & (beta == 0)] = 0
            fresh = False
            continue
        crossing = np.flatnonzero(wrong)
        if len(crossing):
            shares = beta[crossing] / (beta[crossing] - goal[crossing])
            first = crossing[np.argmin(shares)]
            beta = beta + shares.min() * (goal - beta)
            beta[first] = sign[first] = 0.0
            fresh = False
            continue
        done = fresh and not ((beta == 0) & (sign != 0)).any()
        beta, fresh = goal, True
        if done:
            return beta
    return beta


class _BreslowSets:
    """Sums over the patients at risk at each event time, from which Breslow's likelihood follows.

    A patient is at risk at t if entry < t <= time. With patients in order of time, those who leave
    at t or later are a tail of them, so that one cumulative sum serves all event times. With late
    entry, those who enter at t or later are subtracted, which is a second tail. The work therefore
    grows with the number of patients, and not with that of pairs of patients.
    """

    def __init__(self, table: SurvivalTable) -> None:
        self._event = table.event
        time, entry = table.time_days, table.entry_days
        times, self._deaths = np.unique(time[table.event], return_counts=True)
        self._by_time = np.argsort(time, kind="stable")
        self._first = np.searchsorted(time[self._by_time], times, side="left")
        self._until = np.searchsorted(times, time, side="right")
        self._since = np.zeros_like(self._until)
        self._by_entry: IntArray | None = None
        if entry is not None:
            self._by_entry = np.argsort(entry, kind="stable")
            self._late = np.searchsorted(entry[self._by_entry], times, side="left")
            self._since = np.searchsorted(times, entry, side="right")

    def _at_risk(self, values: Float64Array) -> Float64Array:
        """Return the sum of `values` (M, ...) over the patients at risk at each time, (T, ...)."""
        sums = _tail_sums(values[self._by_time], self._first)
        if self._by_entry is not None:
            sums = sums - _tail_sums(values[self._by_entry], self._late)
        return sums

    def log_likelihood(self, predictor: Float64Array) -> float:
        """Return Breslow's partial log-likelihood of the linear predictors (M,)."""
        shifted = predictor - predictor.max()
        at_risk = self._at_risk(np.exp(shifted))
        return float(shifted[self._event].sum() - self._deaths @ np.log(at_risk))

    def derivatives(self, predictor: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return the gradient (M,) of the log-likelihood, and the expected events (M,).

        Both are taken with respect to the linear predictor eta of each patient. With h = exp(eta),
        d_t events at time t and the sum R_t of h over the patients at risk at t,

            expected_i = h_i * sum of d_t / R_t over the t with entry_i < t <= time_i,
            gradient_i = event_i - expected_i.
        """
        hazard = np.exp(predictor - predictor.max())
        rate = np.append(0.0, np.cumsum(self._deaths / self._at_risk(hazard)))
        expected = hazard * (rate[self._until] - rate[self._since])
        return self._event - expected, expected

    def information(self, predictor: Float64Array, x: Float64Array) -> Float64Array:
        """Return minus the Hessian (D, D) with respect to the coefficients of features x (M, D).

        With the mean m_t of x over the patients at risk at t, weighted by h,

            information = sum_i expected_i x_i x_i' - sum_t d_t m_t m_t'.
        """
        expected = self.derivatives(predictor)[1]
        hazard = np.exp(predictor - predictor.max())
        mean = self._at_risk(hazard[:, None] * x) / self._at_risk(hazard)[:, None]
        # A product of a matrix with its own transpose takes half the time.
        of_patients = np.sqrt(expected)[:, None] * x
        of_times = np.sqrt(self._deaths)[:, None] * mean
        return np.asarray(of_patients.T @ of_patients - of_times.T @ of_times)


def _tail_sums(ordered: Float64Array, first: IntArray) -> Float64Array:
    """Return the sums of `ordered` (M, ...) from each row of `first` (T,) on; 0 from row M."""
    padded = np.zeros((len(ordered) + 1, *ordered.shape[1:]))
    np.cumsum(ordered[::-1], axis=0, out=padded[-2::-1])
    return np.asarray(padded[first])
