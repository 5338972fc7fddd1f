"""Expression of any file on the scale that models are trained on, and what of its unit matters to associations."""

from __future__ import annotations

import re
import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tcgn_mil.errors import InputError
from tcgn_mil.statistics.ranks import patient_ranks
from tcgn_mil.types.units import ExpressionUnit

_LOG = re.compile(r"log2\(.+\+\s*(?P<offset>[0-9.eE-]+)\)")


def training_scale(
    values: NDArray[np.float64], unit: str
) -> tuple[NDArray[np.float64], float | None]:
    """Values as models are trained on them: log2 of linear ones, normal scores of z-scores; and the logs' offset."""
    if found := _LOG.fullmatch(unit):
        return values, float(found["offset"])
    parsed = _parsed(unit)
    if parsed is None:
        return values, None  # of predictions already, or of somebody else's making
    if parsed.needs_ranks:
        return norm.ppf(patient_ranks(values)), None
    return parsed.to_training(values).astype(np.float64), 1.0


def library_size(values: NDArray[np.float64], unit: str) -> NDArray[np.float64] | None:
    """(M,) total of each patient's counts (M, G); None for units whose total says nothing of sequencing depth."""
    parsed = _parsed(unit)
    if parsed is None or parsed.base != "counts":
        return None
    counts = values if parsed.log_offset is None else np.exp2(values) - parsed.log_offset
    return np.asarray(np.nansum(counts, axis=1))


def _parsed(unit: str) -> ExpressionUnit | None:
    try:
        return ExpressionUnit.parse(unit)
    except InputError:
        return None


def expressed_genes(
    values: NDArray[np.floating], *, min_fraction: float, floor: float | None = 0.0
) -> NDArray[np.int64]:
    """(G_kept,) columns above `floor` in at least `min_fraction` of training patients, and not constant in them.

    `values` (M_train, G) is in the training unit; `floor` is its value of zero expression, None where it has none
    (z-scores), so that every gene that varies is kept.
    """
    varies = np.nanstd(values, axis=0) > 1e-6
    if floor is None:
        return np.flatnonzero(varies)
    above = np.nanmean(values > floor + 1e-6, axis=0)
    return np.flatnonzero((above >= min_fraction) & varies)


def standardise_within(
    values: NDArray[np.floating], train: NDArray[np.int64], cohort_of: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Values (M, G) of all cohorts brought to one mean and spread, those of training patients, gene by gene.

    A cohort's mean over its training patients becomes that of all, its standard deviation the root of the mean variance
    within cohorts, so that what is learnt is how patients of a cohort differ, not how tables do. A gene that does not
    vary in a cohort keeps its spread.

    Parameters
    ----------
    train
        Rows of the training patients.
    cohort_of
        (M,) cohort of each patient. One without training patients is left as it is.
    """
    out = np.asarray(values, dtype=np.float64)
    cohorts = np.unique(cohort_of[train])
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # a gene that no training patient of a cohort knows
        parts = [out[train[cohort_of[train] == cohort]] for cohort in cohorts]
        mean, std = (
            np.stack([reduce(part, axis=0) for part in parts]) for reduce in (np.nanmean, np.nanstd)
        )
        known = np.stack([np.isfinite(part).sum(axis=0) for part in parts])
        common_mean = np.nansum(known * mean, axis=0) / known.sum(axis=0)
        common_std = np.sqrt(np.nansum(known * std**2, axis=0) / known.sum(axis=0))
    out = out.copy()
    for cohort, own_mean, own_std in zip(cohorts, mean, std, strict=True):
        varies = (own_std > 1e-6) & (common_std > 1e-6)
        factor = np.where(varies, common_std / np.where(varies, own_std, 1), 1)
        shift = np.where(np.isfinite(own_mean), own_mean, common_mean)
        out[cohort_of == cohort] = (out[cohort_of == cohort] - shift) * factor + common_mean
    return out.astype(np.float32)


class RankNormaliser:
    """Map values to normal scores by their rank among training patients, gene by gene.

    For z-scored expression, whose tails reach 1e4. A value tied with or between training values gets the score of its
    average rank; beyond them, that of the extreme rank.
    """

    def __init__(self, training: NDArray[np.floating]) -> None:
        self.known = np.isfinite(training).sum(axis=0)
        self.sorted_training = np.sort(np.where(np.isfinite(training), training, np.inf), axis=0)

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """(M, G) -> (M, G) float32 normal scores, NaN where the value is."""
        from scipy.stats import norm

        count = self.known
        below, below_or_equal = _ranks_among(self.sorted_training, values)
        average = (below + below_or_equal + 1) / 2
        scores = norm.ppf(np.clip(average, 1, np.maximum(count, 1)) / (count + 1))
        return np.where(np.isfinite(values) & (count > 0), scores, np.nan).astype(np.float32)


def _ranks_among(
    ordered: NDArray[np.floating], values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per column, how many of `ordered` lie below, and below or at, each value.

    A rank among both, less the rank among the values alone, counts the training values.
    """
    from scipy.stats import rankdata

    values = np.where(np.isfinite(values), values, np.inf)
    both = np.concatenate([values, ordered])
    low, high = (
        rankdata(both, axis=0, method=ties)[: len(values)] - rankdata(values, axis=0, method=ties)
        for ties in ("min", "max")
    )
    return low, high
