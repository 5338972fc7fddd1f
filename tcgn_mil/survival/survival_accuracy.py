"""How right a risk score is at given times: time-dependent AUC and Brier score, by scikit-survival.

Cumulative/dynamic AUC (Uno et al., J. Am. Stat. Assoc. 2007) and Brier score (Graf et al., Stat. Med. 1999), both
weighted by the chance of not being censored in the training part. They know no late entry.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.io.clinical_file import SurvivalTable
from tcgn_mil.survival.cox import fit_cox
from tcgn_mil.survival.risk_sets import Array

MIN_CASES = (
    5  # patients with the event by the time, and patients still without, for a fold to count
)
MIN_FOLDS = 3


class Accuracy(NamedTuple):
    """At T times, NaN where a fold has too few: ``auc``, ``brier`` and ``brier_null`` of the Kaplan-Meier curve (T,).

    ``cases``: test patients with the event by then.
    """

    auc: Array
    brier: Array
    brier_null: Array
    cases: NDArray[np.int64]


def fold_accuracy(
    train: SurvivalTable, test: SurvivalTable, calibrating: Array, risk: Array, times: Array
) -> Accuracy:
    """Accuracy of a fold's scores `risk` (n,) of the test patients at `times` (T,) in days.

    Parameters
    ----------
    calibrating
        (m,) scores of the training patients by models that did not see them: a Cox regression on them turns a score
        into a chance of being without the event.
    """
    cases = np.array(
        [int((test.event & (test.time_days <= time)).sum()) for time in times], dtype=np.int64
    )
    controls = np.array([int((test.time_days > time).sum()) for time in times])
    usable = (
        (cases >= MIN_CASES)
        & (controls >= MIN_CASES)
        & (times < train.time_days[~train.event].max(initial=0.0))
    )
    auc, brier, brier_null = (np.full(len(times), np.nan) for _ in range(3))
    found = Accuracy(auc, brier, brier_null, cases)
    if not usable.any():
        return found
    from sksurv.metrics import brier_score, cumulative_dynamic_auc
    from sksurv.util import Surv

    until = (
        float(times[usable].max()) + 1.0
    )  # what comes later changes nothing, and may lie beyond the training part
    known = Surv.from_arrays(train.event, train.time_days)
    asked = Surv.from_arrays(
        test.event & (test.time_days <= until), np.minimum(test.time_days, until)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auc[usable] = cumulative_dynamic_auc(known, asked, risk, times[usable])[0]
    for into, scores in ((brier, (calibrating, risk)), (brier_null, (0 * calibrating, 0 * risk))):
        into[usable] = brier_score(
            known, asked, _without_event(train, *scores, times[usable]), times[usable]
        )[1]
    return found


def _without_event(train: SurvivalTable, calibrating: Array, risk: Array, times: Array) -> Array:
    """(n, T) chance of being without the event, by Cox regression on the score, or the Kaplan-Meier curve for none."""
    import pandas as pd
    from lifelines import KaplanMeierFitter

    if not np.ptp(calibrating) > 0:
        curve = KaplanMeierFitter().fit(train.time_days, train.event).predict(times)
        return np.tile(np.asarray(curve, dtype=np.float64), (len(risk), 1))
    fitted = fit_cox(train, pd.DataFrame({"score": calibrating}, index=list(train.patient_id)))
    curves = fitted.predict_survival_function(pd.DataFrame({"score": risk}), times=times)
    return curves.to_numpy(dtype=np.float64).T


def over_folds(found: list[Accuracy]) -> Accuracy:
    """Mean over the folds that have an answer, at least three, weighted by their cases."""
    cases = np.stack([one.cases for one in found]).astype(np.float64)
    means = {}
    for name in ("auc", "brier", "brier_null"):
        values = np.stack([getattr(one, name) for one in found])
        weight = np.where(np.isfinite(values), cases, 0.0)
        enough = np.isfinite(values).sum(axis=0) >= MIN_FOLDS
        total = np.maximum(weight.sum(axis=0), 1e-300)
        means[name] = np.where(enough, (weight * np.nan_to_num(values)).sum(axis=0) / total, np.nan)
    return Accuracy(
        means["auc"], means["brier"], means["brier_null"], cases.sum(axis=0).astype(np.int64)
    )
