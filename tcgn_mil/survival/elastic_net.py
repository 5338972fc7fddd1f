"""Cox regression with an elastic-net penalty, along a path of penalties; scikit-survival's where it can.

Objective (Simon et al., J. Stat. Softw. 2011): log-likelihood / M - penalty * (l1 |b| + (1 - l1) / 2 |b|^2), Breslow's
ties. scikit-survival's solver knows no late entry; with entry times the same objective is solved here, by Newton steps
whose weighted least squares scikit-learn solves.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.survival.risk_sets import Array

_NEWTON_STEPS = 50
_TOLERANCE = 1e-7


def penalties(
    x: Array,
    time: Array,
    event: NDArray[np.bool_],
    entry: Array | None,
    *,
    l1_ratio: float,
    count: int,
    smallest: float,
) -> Array:
    """(count,) penalties, descending, from the least that leaves every coefficient at 0 to `smallest` of that."""
    gradient = _derivatives(np.zeros(len(x)), time, event, entry)[0]
    largest = np.abs(x.T @ gradient).max(initial=0) / len(x) / l1_ratio
    return np.asarray(np.geomspace(largest, smallest * largest, count))


def elastic_net_path(
    x: Array,
    time: Array,
    event: NDArray[np.bool_],
    entry: Array | None,
    *,
    l1_ratio: float,
    penalty: Array,
) -> Array:
    """Coefficients (D, count) of the features `x` (M, D) at each of the `penalty`, which must descend."""
    if entry is not None:
        return _with_entry(x, time, event, entry, l1_ratio, penalty)
    from sksurv.linear_model import CoxnetSurvivalAnalysis
    from sksurv.util import Surv

    model = CoxnetSurvivalAnalysis(alphas=penalty, l1_ratio=l1_ratio, tol=_TOLERANCE)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that all coefficients are 0 at the largest penalties is what is meant
        model.fit(x, Surv.from_arrays(event, time))
    found = np.zeros((x.shape[1], len(penalty)))
    found[:, : model.coef_.shape[1]] = model.coef_
    found[:, model.coef_.shape[1] :] = model.coef_[
        :, -1:
    ]  # where it stopped early, since nothing more was explained
    return found


def _with_entry(
    x: Array, time: Array, event: NDArray[np.bool_], entry: Array, l1_ratio: float, penalty: Array
) -> Array:
    """The path for late entrants: iteratively reweighted elastic net, each penalty from the one before it."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNet

    beta, path = np.zeros(x.shape[1]), np.zeros((x.shape[1], len(penalty)))
    for index, strength in enumerate(penalty):
        for _ in range(_NEWTON_STEPS):
            predictor = x @ beta
            gradient, curvature = _derivatives(predictor, time, event, entry)
            weight = np.maximum(curvature, 1e-8 * curvature.max())
            solver = ElasticNet(
                alpha=strength * len(x) / weight.sum(),
                l1_ratio=l1_ratio,
                fit_intercept=False,
                tol=1e-10,
                max_iter=5000,
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                found = solver.fit(x, predictor + gradient / weight, sample_weight=weight).coef_
            moved, beta = np.abs(found - beta).max(), found
            if moved < _TOLERANCE:
                break
        path[:, index] = beta
    return path


def _derivatives(
    predictor: Array, time: Array, event: NDArray[np.bool_], entry: Array | None
) -> tuple[Array, Array]:
    """Gradient and minus the Hessian's diagonal of Breslow's log-likelihood by each patient's predictor, (M,) each."""
    hazard = np.exp(predictor - predictor.max())
    times, deaths = np.unique(time[event], return_counts=True)
    by_time = np.argsort(time, kind="stable")
    at_risk = _later(hazard[by_time], np.searchsorted(time[by_time], times, side="left"))
    if entry is not None:
        by_entry = np.argsort(entry, kind="stable")
        at_risk = at_risk - _later(
            hazard[by_entry], np.searchsorted(entry[by_entry], times, side="left")
        )
    sums = [np.concatenate([[0.0], np.cumsum(deaths / at_risk**power)]) for power in (1, 2)]
    until = np.searchsorted(times, time, side="right")
    since = np.zeros_like(until) if entry is None else np.searchsorted(times, entry, side="right")
    first, second = (total[until] - total[since] for total in sums)
    expected = hazard * first
    return event - expected, expected - hazard**2 * second


def _later(ordered: Array, first: NDArray[np.int64]) -> Array:
    return np.asarray(np.append(np.cumsum(ordered[::-1])[::-1], 0.0)[first])
