"""Correlation over patients: raw and partial, with intervals and p-values.

Where predictions come from several folds' models, r is computed within folds and combined over
them by Fisher z; where there are no folds, it is computed over all patients. Values may be missing:
each gene uses the patients that have both of its values.

Without folds, p comes from Student's t distribution with n - 2 degrees of freedom. Over folds, p
comes from a normal distribution whose standard deviation is above 1
(:data:`tcgn_mil.statistics.fold_combination.FOLD_NULL_SD`). That is an approximation, since the
models cannot be refitted on permuted values if only their predictions are stored. The standard
deviation is smaller for a covariate that no model was trained on
(:func:`tcgn_mil.statistics.fold_combination.fold_null_sd`).

Intervals come from a jackknife over patients (:mod:`tcgn_mil.statistics.jackknife`). Those of
Spearman's r leave out patients with the ranks that they have in the whole data. On simulated normal
values their coverage is 92 to 96 % from twelve patients a fold; in folds of six it falls to 88 % at
r = 0.6 and lower above, because six patients often have the same order twice, that is r = 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tcgn_mil.statistics.fold_combination import FOLD_NULL_SD, MIN_FOLDS, combine_folds
from tcgn_mil.statistics.gene_metrics import standardised_pairs
from tcgn_mil.statistics.jackknife import gene_interval, jackknife
from tcgn_mil.statistics.ranks import paired_ranks, patient_ranks
from tcgn_mil.statistics.variation import MIN_VARIANCE_LEFT
from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray

# Folds are combined by Fisher's z with the weight n - 3, so a fold needs four patients beyond the
# degrees of freedom of covariates (docs/protocol.md, section Metrics per gene).
MIN_PATIENTS_PER_FOLD = 4
_GENES_AT_ONCE = 256


class Correlation(NamedTuple):
    """Correlations of G genes, NaN where r is not defined.

    Attributes
    ----------
    r
        (G,) correlation in [-1, 1].
    low, high
        (G,) bounds of the 95 % interval; NaN if no interval was asked for.
    p
        (G,) p-value.
    n
        (G,) number of patients used.
    """

    r: Float64Array
    low: Float64Array
    high: Float64Array
    p: Float64Array
    n: Float64Array


class Residuals(NamedTuple):
    """Ranks once covariates are regressed out.

    Attributes
    ----------
    values
        (M, G) residuals; NaN for patients with a missing covariate.
    spent
        Degrees of freedom that the covariates used; the largest number over folds.
    """

    values: Float64Array
    spent: int


def pearson_over_patients(
    first: FloatArray,
    second: FloatArray,
    folds: IntArray | None = None,
    *,
    one_sided: bool = False,
    spent: int = 0,
    ranks: bool = False,
    interval: bool = False,
    null_sd: float = FOLD_NULL_SD,
) -> Correlation:
    """Compute the Pearson correlation of the columns of two matrices, column by column.

    Parameters
    ----------
    first
        (M, G) values of M patients, NaN where a value is missing.
    second
        (M, G), or (M, 1) to correlate every column of `first` with one column.
    folds
        (M,) fold of each patient; None if all patients are comparable.
    one_sided
        Test r > 0 instead of r != 0.
    spent
        Degrees of freedom of covariates that were regressed out before.
    ranks
        Whether the values are ranks or their residuals, whose r has a smaller bias in small folds.
    interval
        Whether to compute the 95 % interval.
    null_sd
        Null standard deviation of the z combined over folds; not used without folds.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> predicted = rng.normal(size=(50, 1))
    >>> measured = predicted + rng.normal(size=(50, 1))
    >>> found = pearson_over_patients(predicted, measured, interval=True)
    >>> bool(found.low[0] < found.r[0] < found.high[0]), bool(found.p[0] < 0.001)
    (True, True)
    """
    first = np.asarray(first, dtype=np.float64)
    second = np.broadcast_to(np.asarray(second, dtype=np.float64), first.shape)
    # A few genes at a time, so that the copies of their values stay small.
    parts = [
        _correlate(first[:, chosen], second[:, chosen], folds, one_sided, spent, null_sd)
        for chosen in _gene_blocks(first.shape[1])
    ]
    result = Correlation(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    if not interval:
        return result
    values = jackknife(
        first,
        second,
        np.zeros(len(first), dtype=np.int64) if folds is None else folds,
        min_folds=1 if folds is None else MIN_FOLDS,
        spent=spent,
        ranks=ranks,
    )
    low, high = gene_interval(values)
    return result._replace(low=low, high=high)


def spearman_over_patients(
    first: FloatArray,
    second: FloatArray,
    folds: IntArray | None = None,
    *,
    one_sided: bool = False,
    interval: bool = False,
    null_sd: float = FOLD_NULL_SD,
) -> Correlation:
    """Compute the Spearman correlation, which is the Pearson correlation of ranks.

    Ranks are taken among the patients (of the fold) that have both values. The interval leaves out
    patients without making ranks anew.

    Parameters
    ----------
    first, second, folds, one_sided, interval, null_sd
        As in :func:`pearson_over_patients`.

    Examples
    --------
    >>> import numpy as np
    >>> purity = np.array([[0.2], [0.4], [0.5], [0.7], [0.9]])
    >>> spearman_over_patients(np.exp(-purity), purity).r
    array([-1.])
    """
    ranked = paired_ranks(first, second, folds)
    return pearson_over_patients(
        *ranked, folds, one_sided=one_sided, ranks=True, interval=interval, null_sd=null_sd
    )


def without_covariates(
    values: FloatArray, covariates: FloatArray, folds: IntArray | None = None
) -> Residuals:
    """Return the residuals of the ranks of values on the ranks of covariates.

    The Pearson correlation of two such residuals is the partial Spearman correlation given the
    covariates. The least-squares fit is made within folds.

    Parameters
    ----------
    values
        (M, G). A gene is left out of a fold if a patient with all covariates lacks its value.
    covariates
        (M, C), categories as 0/1 columns. A patient with a missing covariate is left out.
    folds
        (M,) fold of each patient; None if all patients are comparable.
    """
    values, covariates = (
        np.asarray(values, dtype=np.float64),
        np.asarray(covariates, dtype=np.float64),
    )
    out = np.full(values.shape, np.nan)
    spent = 0
    for rows in _fold_rows(len(values), folds):
        finite = rows[np.isfinite(covariates[rows]).all(axis=1)]
        if not finite.size:
            continue
        design = np.column_stack([np.ones(len(finite)), patient_ranks(covariates[finite])])
        # The singular vectors with nonzero singular values span the design, also where covariates
        # are collinear within the fold. With this orthonormal basis Q, residuals are Y - Q (Q' Y).
        left, singular, _ = np.linalg.svd(design, full_matrices=False)
        basis = left[:, singular > 1e-10 * singular[0]]
        ranks = patient_ranks(values[finite])
        ranks[:, ~np.isfinite(ranks).all(axis=0)] = np.nan
        residuals = ranks - basis @ (basis.T @ ranks)
        explained = np.square(residuals).sum(axis=0) < MIN_VARIANCE_LEFT * np.square(ranks).sum(
            axis=0
        )
        residuals[:, explained] = np.nan
        out[finite] = residuals
        spent = max(spent, basis.shape[1] - 1)
    return Residuals(out, spent)


def _gene_blocks(genes: int) -> Iterator[slice]:
    for start in range(0, max(genes, 1), _GENES_AT_ONCE):
        yield slice(start, start + _GENES_AT_ONCE)


def _fold_rows(patients: int, folds: IntArray | None) -> list[IntArray]:
    if folds is None:
        return [np.arange(patients)]
    return [np.flatnonzero(folds == fold) for fold in np.unique(folds)]


def _correlate(
    first: FloatArray,
    second: FloatArray,
    folds: IntArray | None,
    one_sided: bool,
    spent: int,
    null_sd: float,
) -> Correlation:
    """Compute the correlations of a block of genes, without intervals."""
    pairs = [
        standardised_pairs(first[rows], second[rows]) for rows in _fold_rows(len(first), folds)
    ]
    r, n = np.stack([part.r for part in pairs]), np.stack([part.n for part in pairs])  # (F, G)
    r[n < MIN_PATIENTS_PER_FOLD + spent] = np.nan
    if folds is None:
        combined, p = r[0], _p_of_t(r[0], n[0] - 2 - spent, one_sided)
    else:
        combined, p = _over_folds(r, n - spent, one_sided, null_sd)
    used = np.where(np.isfinite(combined), n.sum(axis=0), np.nan)
    unknown = np.full(len(p), np.nan)
    return Correlation(combined, unknown, unknown, p, used)


def _p_of_t(r: Float64Array, freedom: Float64Array, one_sided: bool) -> Float64Array:
    from scipy import stats

    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt(freedom / (1 - np.square(r)))
    return stats.t.sf(t, freedom) if one_sided else 2 * stats.t.sf(np.abs(t), freedom)


def _over_folds(
    r: Float64Array, n: Float64Array, one_sided: bool, null_sd: float
) -> tuple[Float64Array, Float64Array]:
    """Combine r of F folds (F, G), and return it with its p-values (G,)."""
    from scipy import stats

    combined = combine_folds(r, n, min_folds=MIN_FOLDS)
    z = combined.z / null_sd
    return combined.r, stats.norm.sf(z) if one_sided else 2 * stats.norm.sf(np.abs(z))
