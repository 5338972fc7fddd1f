"""Harrell's C of risk scores, with pairs counted within folds only, and its bootstrap over patients.

Harrell et al., J. Am. Med. Assoc. 1982. Scores of different folds come from different models and are not comparable
(PROTOCOL, Survival). Ties are lifelines': of two patients with one time, only an event and a censored one are a pair;
equal scores count half. Of late entrants only those under observation at the earlier event make a pair with it.

How right a risk score is at given times: time-dependent AUC and Brier score, by scikit-survival.

Cumulative/dynamic AUC (Uno et al., J. Am. Stat. Assoc. 2007) and Brier score (Graf et al., Stat. Med. 1999), both
weighted by the chance of not being censored in the training part. They know no late entry.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.survival.cox import fit_cox
from tcgn_mil.survival.risk_sets import Array
from tcgn_mil.types.outcomes import SurvivalTable

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
