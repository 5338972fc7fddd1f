"""Transform bulk expression to the scale that models are trained on.

See docs/protocol.md, section Targets.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tcgn_mil.errors import InputError
from tcgn_mil.statistics.ranks import patient_ranks
from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray
from tcgn_mil.types.units import ExpressionUnit

_LOG = re.compile(r"log2\(.+\+\s*(?P<offset>[0-9.eE-]+)\)")
_MIN_GENE_SD = 1e-6  # standard deviation below which a gene counts as constant


def training_scale(values: Float64Array, unit: str) -> tuple[Float64Array, float | None]:
    """Bring expression of any unit to the scale that models are trained on.

    Parameters
    ----------
    values
        (M, G) expression of M patients.
    unit
        Unit as :class:`tcgn_mil.types.units.ExpressionUnit` reads it, or ``log2(... + offset)``.

    Returns
    -------
    values
        log2(x + 1) if the unit is linear, normal scores of ranks if it is z-scores, and the values
        themselves if they are logarithms or of an unknown unit.
    log_offset
        Offset of the logarithm; None if there is none.

    Examples
    --------
    >>> import numpy as np
    >>> training_scale(np.array([[0.0], [3.0]]), "tpm")
    (array([[0.],
           [2.]]), 1.0)
    """
    if logarithm := _LOG.fullmatch(unit):
        return values, float(logarithm["offset"])
    parsed = _parsed(unit)
    if parsed is None:
        return values, None
    if parsed.needs_ranks:
        # All patients are ranked together, because there is no training part here. Ranks are
        # (rank - 1/2) / n, and not rank / (n + 1) as in RankNormaliser.
        return norm.ppf(patient_ranks(values)), None
    return parsed.to_training(values).astype(np.float64), 1.0


def library_size(values: Float64Array, unit: str) -> Float64Array | None:
    """Return the total count of each patient, which associations are adjusted for.

    Parameters
    ----------
    values
        (M, G) expression.
    unit
        Unit of the values.

    Returns
    -------
    (M,) totals; None if the unit is not based on counts. Totals of other units do not depend on
    sequencing depth.
    """
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
    values: FloatArray, *, min_fraction: float, floor: float | None = 0.0
) -> IntArray:
    """Return the columns of genes that are expressed in enough training patients and that vary.

    Parameters
    ----------
    values
        (M_train, G) in the training unit, NaN where a value is missing.
    min_fraction
        Least share of the patients whose value is above `floor`.
    floor
        Value that means no expression. None if there is no such value, as for z-scores; every gene
        that varies is then kept.

    Returns
    -------
    Column numbers (G_kept,).

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[0.0, 1.0, 5.0], [0.0, 2.0, 5.0], [0.3, 0.0, 5.0]])
    >>> expressed_genes(values, min_fraction=0.5)
    array([1])
    """
    varies = np.nanstd(values, axis=0) > _MIN_GENE_SD
    if floor is None:
        return np.flatnonzero(varies)
    above = np.nanmean(values > floor + 1e-6, axis=0)
    return np.flatnonzero((above >= min_fraction) & varies)


def standardise_within(
    values: FloatArray, train: IntArray, cohort_of: IntArray
) -> NDArray[np.float32]:
    """Bring all cohorts to the same mean and spread, gene by gene.

    A model then learns how the patients of a cohort differ from one another, not how the tables
    differ. Means and standard deviations come from training patients only.

    Parameters
    ----------
    values
        (M, G) in the training unit, NaN where a value is missing.
    train
        Rows of the training patients.
    cohort_of
        (M,) cohort of each patient. A cohort without training patients is not changed.

    Returns
    -------
    (M, G) float32. A gene that does not vary in a cohort keeps its spread there.
    """
    # The common mean of a gene is the mean over the training patients of all cohorts. The common
    # variance is the mean variance within cohorts, each cohort weighted by its patients. A value v
    # of cohort c becomes (v - mean_c) * sd_common / sd_c + mean_common.
    out = np.asarray(values, dtype=np.float64)
    cohorts = np.unique(cohort_of[train])
    with warnings.catch_warnings():
        # A gene may be missing in all training patients of a cohort.
        warnings.simplefilter("ignore", RuntimeWarning)
        parts = [out[train[cohort_of[train] == cohort]] for cohort in cohorts]
        mean, std = (
            np.stack([reduce(part, axis=0) for part in parts]) for reduce in (np.nanmean, np.nanstd)
        )
        finite = np.stack([np.isfinite(part).sum(axis=0) for part in parts])
        common_mean = np.nansum(finite * mean, axis=0) / finite.sum(axis=0)
        common_std = np.sqrt(np.nansum(finite * std**2, axis=0) / finite.sum(axis=0))
    out = out.copy()
    for cohort, own_mean, own_std in zip(cohorts, mean, std, strict=True):
        varies = (own_std > _MIN_GENE_SD) & (common_std > _MIN_GENE_SD)
        factor = np.where(varies, common_std / np.where(varies, own_std, 1), 1)
        shift = np.where(np.isfinite(own_mean), own_mean, common_mean)
        out[cohort_of == cohort] = (out[cohort_of == cohort] - shift) * factor + common_mean
    return out.astype(np.float32)
