"""Accuracy of risk scores: Harrell's C within folds, and AUC and Brier score at given times.

Harrell's C (J. Am. Med. Assoc. 1982) counts pairs of patients of the same fold only, because the
scores of two folds come from two models and are not comparable (docs/protocol.md, section
Survival). Ties are treated as in lifelines.

The time-dependent accuracy is that of scikit-survival: cumulative/dynamic AUC (Uno et al., J. Am.
Stat. Assoc. 2007) and Brier score (Graf et al., Stat. Med. 1999). Both weight patients by the
inverse probability of not being censored, estimated on the training patients. They do not allow
for late entry.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tcgn_mil.statistics.fold_combination import MIN_FOLDS
from tcgn_mil.survival.cox import fit_cox
from tcgn_mil.types.arrays import BoolArray, Float64Array, IntArray
from tcgn_mil.types.outcomes import SurvivalTable

INTERVAL = (2.5, 97.5)  # percentiles of the bootstrap
MIN_CASES = 5  # least number of patients with the event by a time, and of patients without it


class PairCounts(NamedTuple):
    """Counts of pairs for K scores and W weightings of the patients.

    Attributes
    ----------
    concordant
        (K, W) number of pairs in which the patient with the earlier event has the higher score.
        Equal scores count half.
    comparable
        (W,) number of pairs whose order of events is known.
    """

    concordant: Float64Array
    comparable: Float64Array

    @property
    def c(self) -> Float64Array:
        """Concordance (K, W); NaN if there is no comparable pair."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.concordant / self.comparable)


class Concordance(NamedTuple):
    """Harrell's C of K scores with bootstrap intervals.

    Attributes
    ----------
    c
        (K,) concordance in [0, 1].
    low, high
        (K,) bounds of the 95 % interval.
    pairs
        Number of comparable pairs.
    replicates
        (K, B) bootstrap replicates. All scores share the same draws, so that differences of two
        scores have an interval as well.
    """

    c: Float64Array
    low: Float64Array
    high: Float64Array
    pairs: float
    replicates: Float64Array


def comparable_pairs(
    time: Float64Array, event: BoolArray, entry: Float64Array | None = None
) -> Float64Array:
    """Return the matrix of the pairs of patients whose order of events is known.

    Parameters
    ----------
    time, event, entry
        (M,) each, as in :class:`tcgn_mil.types.outcomes.SurvivalTable`.

    Returns
    -------
    (M, M): 1 where the row's patient is known to have had the event before the column's patient.

    Examples
    --------
    >>> import numpy as np
    >>> comparable_pairs(np.array([1.0, 2.0, 3.0]), np.array([True, False, True])).tolist()
    [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    # A patient censored at the time of an event was still without the event then. Two events at one
    # time are not a pair. A late entrant must have been under observation at the earlier event.
    before = (time[:, None] < time) | ((time[:, None] == time) & ~event)
    if entry is not None:
        before &= entry < time[:, None]
    return np.asarray(before & event[:, None], dtype=np.float64)


def pair_counts(
    time: Float64Array,
    event: BoolArray,
    risks: Float64Array,
    groups: IntArray,
    *,
    entry: Float64Array | None = None,
    weights: Float64Array | None = None,
) -> PairCounts:
    """Count concordant and comparable pairs within folds.

    Parameters
    ----------
    time, event, entry
        (M,) each, as in :class:`tcgn_mil.types.outcomes.SurvivalTable`.
    risks
        (K, R, M) scores of K models in R repeats of the cross-validation; higher means worse.
    groups
        (R, M) fold of each patient in each repeat.
    weights
        (W, M) number of times that each patient is counted, for the bootstrap; None counts each
        patient once.
    """
    # With a 0/1 matrix P of pairs, weights w count sum_ij w_i P_ij w_j pairs, which is one matrix
    # product for all weightings.
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


def concordance(
    time: Float64Array,
    event: BoolArray,
    risks: Float64Array,
    groups: IntArray,
    *,
    entry: Float64Array | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Concordance:
    """Compute Harrell's C within folds, with a 95 % percentile interval over resampled patients.

    Parameters
    ----------
    time, event, risks, groups, entry
        As in :func:`pair_counts`.
    replicates
        Number B of bootstrap draws; 0 for no interval.
    seed
        Seed of the draws.

    Examples
    --------
    >>> import numpy as np
    >>> time = np.array([1.0, 2.0, 3.0, 4.0])
    >>> event = np.array([True, True, True, False])
    >>> risk = np.array([3.0, 4.0, 2.0, 1.0])[None, None]  # one model, one repeat
    >>> result = concordance(time, event, risk, np.zeros((1, 4), int), replicates=0)
    >>> result.c.round(3), result.pairs
    (array([0.833]), 6.0)
    """
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


class Accuracy(NamedTuple):
    """Accuracy of a risk score at T times; NaN where a fold has too few patients.

    Attributes
    ----------
    auc
        (T,) cumulative/dynamic area under the curve.
    brier
        (T,) Brier score: mean squared error of the predicted probability.
    brier_null
        (T,) Brier score of the Kaplan-Meier curve of the training patients.
    cases
        (T,) number of test patients with the event by that time.
    """

    auc: Float64Array
    brier: Float64Array
    brier_null: Float64Array
    cases: IntArray


def fold_accuracy(
    train: SurvivalTable,
    test: SurvivalTable,
    calibrating: Float64Array,
    risk: Float64Array,
    times: Float64Array,
) -> Accuracy:
    """Compute the accuracy of the scores of one test fold.

    Parameters
    ----------
    train, test
        Survival times of the m training patients and the n test patients.
    calibrating
        (m,) scores of the training patients by models that did not see them. A Cox regression on
        these scores turns a score into a probability of being without the event.
    risk
        (n,) scores of the test patients; higher means worse.
    times
        (T,) times in days.
    """
    cases = np.array(
        [int((test.event & (test.time_days <= time)).sum()) for time in times], dtype=np.int64
    )
    controls = np.array([int((test.time_days > time).sum()) for time in times])
    # Beyond the last censored training patient, the censoring distribution is not known.
    usable = (
        (cases >= MIN_CASES)
        & (controls >= MIN_CASES)
        & (times < train.time_days[~train.event].max(initial=0.0))
    )
    auc, brier, brier_null = (np.full(len(times), np.nan) for _ in range(3))
    accuracy = Accuracy(auc, brier, brier_null, cases)
    if not usable.any():
        return accuracy
    from sksurv.metrics import brier_score, cumulative_dynamic_auc
    from sksurv.util import Surv

    # scikit-survival refuses test times beyond the training times. Follow-up is cut one day after
    # the last time that is asked for, which does not change the result.
    until = float(times[usable].max()) + 1.0
    train_outcome = Surv.from_arrays(train.event, train.time_days)
    test_outcome = Surv.from_arrays(
        test.event & (test.time_days <= until), np.minimum(test.time_days, until)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auc[usable] = cumulative_dynamic_auc(train_outcome, test_outcome, risk, times[usable])[0]
    for into, scores in ((brier, (calibrating, risk)), (brier_null, (0 * calibrating, 0 * risk))):
        survival = _probability_without_event(train, *scores, times[usable])
        into[usable] = brier_score(train_outcome, test_outcome, survival, times[usable])[1]
    return accuracy


def _probability_without_event(
    train: SurvivalTable, calibrating: Float64Array, risk: Float64Array, times: Float64Array
) -> Float64Array:
    """Compute the probability (n, T) of no event, by Cox regression on the score.

    If all scores are equal, it is the Kaplan-Meier curve of the training patients.
    """
    import pandas as pd
    from lifelines import KaplanMeierFitter

    if not np.ptp(calibrating) > 0:
        curve = KaplanMeierFitter().fit(train.time_days, train.event).predict(times)
        return np.tile(np.asarray(curve, dtype=np.float64), (len(risk), 1))
    fitted = fit_cox(train, pd.DataFrame({"score": calibrating}, index=list(train.patient_id)))
    curves = fitted.predict_survival_function(pd.DataFrame({"score": risk}), times=times)
    return curves.to_numpy(dtype=np.float64).T


def mean_over_folds(folds: Sequence[Accuracy]) -> Accuracy:
    """Compute the mean accuracy over folds, weighted by their number of cases.

    The accuracy at a time is NaN if it is defined in fewer than three folds. Cases are summed over
    all folds.
    """
    cases = np.stack([fold.cases for fold in folds]).astype(np.float64)
    means = {}
    for name in ("auc", "brier", "brier_null"):
        values = np.stack([getattr(fold, name) for fold in folds])
        weight = np.where(np.isfinite(values), cases, 0.0)
        enough = np.isfinite(values).sum(axis=0) >= MIN_FOLDS
        total = np.maximum(weight.sum(axis=0), 1e-300)
        means[name] = np.where(enough, (weight * np.nan_to_num(values)).sum(axis=0) / total, np.nan)
    return Accuracy(
        means["auc"], means["brier"], means["brier_null"], cases.sum(axis=0).astype(np.int64)
    )
