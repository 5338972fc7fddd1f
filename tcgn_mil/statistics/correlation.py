"""Correlation over patients, vectorised over genes: raw and partial, with bootstrap intervals, p and q.

Within folds, where predictions come from one model each, and combined over them by Fisher z weighted by n - 3; over all
patients where there are no folds. Values may be missing: each gene uses the patients that have both of its values.

p without folds is of Student's t with n - 2 degrees of freedom. p over folds takes the null sd of the combined z as
sqrt(2), since each pair of folds informs both directions: approximate, as refits under permuted labels cannot be had
from stored predictions. Against a covariate, which no model was trained on, it is less (:func:`fold_null_sd`).

Intervals are percentiles of a bootstrap over patients. On simulated normal values nominal 95 % cover 93 to 95 % with
five folds of 54 patients, and 88 to 95 % with five folds of 12, where they lie too far from 0: read those of small
folds with that in mind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.statistics.bootstrap import percentile_interval
from tcgn_mil.statistics.gene_metrics import FOLD_NULL_SD, combine_folds, weighted_r

Array = NDArray[np.floating]
Folds = NDArray[np.int64]
MIN_FOLDS = 3  # as PROTOCOL asks; fewer have no combined r
_LEAST_PATIENTS = 4
_CHUNK = 256
_FLAT = 1e-10  # variance, in units of the column's own, that is no signal


class Correlation(NamedTuple):
    """Per gene, each (G,) float64 with NaN where there is no answer.

    ``r`` in [-1, 1]; ``low`` and ``high`` its 95 % bootstrap interval (NaN without replicates); ``p``; ``n`` patients.
    """

    r: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]
    n: NDArray[np.float64]


class Residuals(NamedTuple):
    """Ranks without covariates.

    Attributes
    ----------
    values
        (M, G), NaN for patients whose covariates are not known.
    spent
        Degrees of freedom that the covariates took, at most over folds.
    """

    values: NDArray[np.float64]
    spent: int


class KruskalWallis(NamedTuple):
    """Per score, each (K,): statistic ``h``, ``p``, ``epsilon2`` (share of rank variance between groups), ``n``."""

    h: NDArray[np.float64]
    p: NDArray[np.float64]
    epsilon2: NDArray[np.float64]
    n: NDArray[np.float64]


def pearson_over_patients(
    first: Array,
    second: Array,
    folds: Folds | None = None,
    *,
    one_sided: bool = False,
    spent: int = 0,
    replicates: int = 0,
    seed: int = 0,
    null_sd: float = FOLD_NULL_SD,
) -> Correlation:
    """Pearson r of each column of `first` (M, G) with that of `second` (M, G) or (M, 1).

    Parameters
    ----------
    folds
        (M,) fold of each patient; None where all are comparable.
    one_sided
        Test r > 0 instead of r unlike 0.
    spent
        Degrees of freedom of covariates that were taken out before.
    replicates
        Bootstrap draws of patients, within folds; 0 for no interval.
    null_sd
        Of the z combined over folds.
    """
    first = np.asarray(first, dtype=np.float64)
    second = np.broadcast_to(np.asarray(second, dtype=np.float64), first.shape)
    parts = [
        _chunk(
            first[:, columns],
            second[:, columns],
            folds,
            one_sided,
            spent,
            replicates,
            seed,
            null_sd,
        )
        for columns in _chunks(first.shape[1])
    ]
    return Correlation(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def spearman_over_patients(
    first: Array,
    second: Array,
    folds: Folds | None = None,
    *,
    one_sided: bool = False,
    replicates: int = 0,
    seed: int = 0,
    null_sd: float = FOLD_NULL_SD,
) -> Correlation:
    """Spearman r: Pearson of ranks among the patients (of the fold) that have both values.

    The bootstrap draws patients with the ranks that they have among all, which is quicker than to rank each draw.
    """
    ranks = paired_ranks(first, second, folds)
    return pearson_over_patients(
        *ranks, folds, one_sided=one_sided, replicates=replicates, seed=seed, null_sd=null_sd
    )


def fold_null_sd(shares: Array) -> float:
    """Null sd of the combined z of predictions with a score that no model was trained on.

    Of two folds, the first one's r is of its score and of the second one's measured values, through the model, and the
    other way round. Where images tell nothing, their covariance is thus the squared r of the score with what the models
    were trained on, which is taken as the largest of `shares` (G,), the squared r of each measured gene with the score
    within folds (of categories, epsilon squared): sqrt(1 + that). It is 1 for a score that no gene knows, and sqrt(2)
    for one that a gene is, or where no share is known.
    """
    known = shares[np.isfinite(shares)]
    return float(np.sqrt(1 + min(known.max(), 1.0))) if known.size else FOLD_NULL_SD


def paired_ranks(
    first: Array, second: Array, folds: Folds | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ranks (M, G) of both among the patients that have both, within folds."""
    left = np.asarray(first, dtype=np.float64)
    right = np.broadcast_to(np.asarray(second, dtype=np.float64), left.shape)
    known = np.isfinite(left) & np.isfinite(right)
    if known.all() and np.shape(second)[1] == 1:  # one column against many is ranked once
        return patient_ranks(left, folds), np.broadcast_to(
            patient_ranks(right[:, :1], folds), left.shape
        )
    return tuple(patient_ranks(np.where(known, values, np.nan), folds) for values in (left, right))  # type: ignore[return-value]


def without_covariates(values: Array, covariates: Array, folds: Folds | None = None) -> Residuals:
    """Residuals of the ranks of `values` (M, G) on ranks of `covariates` (M, C), by least squares within folds.

    Correlated with each other, residuals give the partial Spearman r. Categories come as 0/1 columns. A patient with a
    covariate missing is left out; so is a gene, from a fold, in which any other patient lacks its value.
    """
    values, covariates = (
        np.asarray(values, dtype=np.float64),
        np.asarray(covariates, dtype=np.float64),
    )
    out = np.full(values.shape, np.nan)
    spent = 0
    for rows in _fold_rows(len(values), folds):
        known = rows[np.isfinite(covariates[rows]).all(axis=1)]
        if not known.size:
            continue
        design = np.column_stack([np.ones(len(known)), patient_ranks(covariates[known])])
        left, singular, _ = np.linalg.svd(design, full_matrices=False)
        basis = left[:, singular > 1e-10 * singular[0]]
        ranks = patient_ranks(values[known])
        ranks[:, ~np.isfinite(ranks).all(axis=0)] = np.nan
        residuals = ranks - basis @ (basis.T @ ranks)
        residuals[:, np.square(residuals).sum(axis=0) < _FLAT * np.square(ranks).sum(axis=0)] = (
            np.nan
        )
        out[known] = residuals
        spent = max(spent, basis.shape[1] - 1)
    return Residuals(out, spent)


def kruskal_wallis(
    scores: Array, groups: NDArray[np.int64], *, null_sd: float = 1.0
) -> KruskalWallis:
    """Kruskal & Wallis' test (JASA 1952), with ties, of each column of `scores` (M, K).

    `groups` (M,) numbers the categories; -1 is not known. H is (n - 1) times the share of the ranks' variance that lies
    between groups, which is what the textbook's formula is once it is corrected for ties. p is of H / null_sd^2, for
    predictions of several folds' models.
    """
    from scipy import stats

    scores = np.where((groups >= 0)[:, None], scores, np.nan)
    ranks = patient_ranks(scores)
    known = np.isfinite(ranks)
    n = known.sum(axis=0).astype(np.float64)
    members = (groups[:, None] == np.arange(groups.max(initial=-1) + 1)).astype(
        np.float64
    )  # (M, L)
    sizes = members.T @ known  # (L, K)
    with np.errstate(divide="ignore", invalid="ignore"):
        centred = np.where(known, ranks - np.nansum(ranks, axis=0) / n, 0)
        between = np.where(sizes > 0, np.square(members.T @ centred) / sizes, 0).sum(axis=0)
        share = between / np.square(centred).sum(axis=0)
    levels = (sizes > 0).sum(axis=0)
    share = np.where(levels > 1, share, np.nan)
    h = (n - 1) * share
    return KruskalWallis(h, stats.chi2.sf(h / null_sd**2, np.maximum(levels - 1, 1)), share, n)


def _chunks(genes: int) -> Iterator[slice]:
    for start in range(0, max(genes, 1), _CHUNK):
        yield slice(start, start + _CHUNK)


def _fold_rows(patients: int, folds: Folds | None) -> list[NDArray[np.int64]]:
    if folds is None:
        return [np.arange(patients)]
    return [np.flatnonzero(folds == fold) for fold in np.unique(folds)]


def _chunk(
    first: Array,
    second: Array,
    folds: Folds | None,
    one_sided: bool,
    spent: int,
    replicates: int,
    seed: int,
    null_sd: float,
) -> Correlation:
    """Correlations of a few genes: of all draws at once, the first of which is the sample itself."""
    rng = np.random.default_rng(seed)
    drawn, counts = [], []
    for rows in _fold_rows(len(first), folds):
        weights = np.ones((1 + replicates, len(rows)))
        weights[1:] = rng.multinomial(
            len(rows), np.full(len(rows), 1 / max(len(rows), 1)), replicates
        )
        drawn.append(weighted_r(first[rows], second[rows], weights))
        counts.append((np.isfinite(first[rows]) & np.isfinite(second[rows])).sum(axis=0))
    r, n = np.stack(drawn), np.stack(counts).astype(np.float64)  # (F, 1 + R, G), (F, G)
    r[np.broadcast_to((n < _LEAST_PATIENTS + spent)[:, None], r.shape)] = np.nan
    if folds is None:
        best, p = r[0], _p_of_t(r[0, 0], n[0] - 2 - spent, one_sided)
    else:
        best, p = _over_folds(r, n - spent, one_sided, null_sd)
    low, high = percentile_interval(best[1:]) if replicates else (np.full(len(p), np.nan),) * 2
    return Correlation(best[0], low, high, p, np.where(np.isfinite(best[0]), n.sum(axis=0), np.nan))


def _p_of_t(
    r: NDArray[np.float64], freedom: NDArray[np.float64], one_sided: bool
) -> NDArray[np.float64]:
    from scipy import stats

    with np.errstate(divide="ignore", invalid="ignore"):
        t = r * np.sqrt(freedom / (1 - np.square(r)))
    return stats.t.sf(t, freedom) if one_sided else 2 * stats.t.sf(np.abs(t), freedom)


def _over_folds(
    r: NDArray[np.float64], n: NDArray[np.float64], one_sided: bool, null_sd: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Combined r (1 + R, G), and p (G,) of the first."""
    from scipy import stats

    folds, draws, genes = r.shape
    flat = combine_folds(r.reshape(folds, -1), np.tile(n, draws), min_folds=MIN_FOLDS)
    z = flat.z[:genes] / null_sd
    p = stats.norm.sf(z) if one_sided else 2 * stats.norm.sf(np.abs(z))
    return flat.r.reshape(draws, genes), p


def patient_ranks(
    values: NDArray[np.floating], groups: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """(M, G) average rank of each value among its column's known ones (of its group), as (rank - 1/2) / n."""
    from scipy.stats import rankdata

    out = np.full(values.shape, np.nan)
    for rows in (
        [slice(None)] if groups is None else [groups == group for group in np.unique(groups)]
    ):
        part = values[rows]
        known = np.isfinite(part)
        if part.size:
            ranks = (
                rankdata(part, axis=0) if known.all() else rankdata(part, axis=0, nan_policy="omit")
            )
            out[rows] = np.where(known, (ranks - 0.5) / np.maximum(known.sum(axis=0), 1), np.nan)
    return out
