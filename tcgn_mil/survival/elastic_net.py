"""Cox regression with an elastic-net penalty, along a path of penalties.

The objective is that of Simon et al. (J. Stat. Softw. 2011), to be maximised over the coefficients
b, with Breslow's method for ties:

    log-likelihood / M - penalty * (l1_ratio * |b|_1 + (1 - l1_ratio) / 2 * |b|_2^2).

scikit-survival's solver does not allow for late entry. With entry times the same objective is
solved here by Newton steps, whose weighted least-squares problems scikit-learn solves.
"""

from __future__ import annotations

import warnings

import numpy as np

from tcgn_mil.types.arrays import BoolArray, Float64Array, IntArray
from tcgn_mil.types.outcomes import SurvivalTable

_NEWTON_STEPS = 50
_TOLERANCE = 1e-7


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
    gradient = _derivatives(np.zeros(len(x)), table.time_days, table.event, table.entry_days)[0]
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
    """Compute the path by reweighted elastic nets, each penalty starting from the one before.

    At linear predictors eta, the log-likelihood is approximated by the quadratic function with its
    gradient g and the diagonal w of minus its Hessian. Maximising it with the penalty is a least-
    squares problem with weights w and the working response eta + g / w, solved by scikit-learn's
    coordinate descent. These steps are repeated until the coefficients no longer change.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNet

    beta, path = np.zeros(x.shape[1]), np.zeros((x.shape[1], len(penalty)))
    for index, strength in enumerate(penalty):
        for _ in range(_NEWTON_STEPS):
            predictor = x @ beta
            gradient, curvature = _derivatives(
                predictor, table.time_days, table.event, table.entry_days
            )
            weight = np.maximum(curvature, 1e-8 * curvature.max())
            # ElasticNet divides its weights by their mean, which the penalty must follow.
            solver = ElasticNet(
                alpha=strength * len(x) / weight.sum(),
                l1_ratio=l1_ratio,
                fit_intercept=False,
                tol=1e-10,
                max_iter=5000,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                updated = solver.fit(x, predictor + gradient / weight, sample_weight=weight).coef_
            change, beta = np.abs(updated - beta).max(), updated
            if change < _TOLERANCE:
                break
        path[:, index] = beta
    return path


def _derivatives(
    predictor: Float64Array, time: Float64Array, event: BoolArray, entry: Float64Array | None
) -> tuple[Float64Array, Float64Array]:
    """Return gradient (M,) and minus the Hessian's diagonal (M,) of Breslow's log-likelihood.

    Both are taken with respect to the linear predictor eta of each patient. With h = exp(eta), d_t
    events at time t and the sum R_t of h over the patients at risk at t,

        gradient_i = event_i - h_i * sum_t d_t / R_t,
        curvature_i = h_i * sum_t d_t / R_t - h_i^2 * sum_t d_t / R_t^2,

    where the sums are over the event times t with entry_i < t <= time_i. They are differences of
    cumulative sums over all event times.
    """
    hazard = np.exp(predictor - predictor.max())
    times, deaths = np.unique(time[event], return_counts=True)
    by_time = np.argsort(time, kind="stable")
    at_risk = _tail_sums(hazard[by_time], np.searchsorted(time[by_time], times, side="left"))
    if entry is not None:
        by_entry = np.argsort(entry, kind="stable")
        at_risk = at_risk - _tail_sums(
            hazard[by_entry], np.searchsorted(entry[by_entry], times, side="left")
        )
    sums = [np.concatenate([[0.0], np.cumsum(deaths / at_risk**power)]) for power in (1, 2)]
    until = np.searchsorted(times, time, side="right")
    since = np.zeros_like(until) if entry is None else np.searchsorted(times, entry, side="right")
    first, second = (total[until] - total[since] for total in sums)
    expected = hazard * first
    return event - expected, expected - hazard**2 * second


def _tail_sums(ordered: Float64Array, first: IntArray) -> Float64Array:
    return np.asarray(np.append(np.cumsum(ordered[::-1])[::-1], 0.0)[first])
