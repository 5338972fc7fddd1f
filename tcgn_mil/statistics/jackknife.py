"""Intervals over patients of correlations that were combined over folds, by the jackknife.

The combined r of a gene is tanh(zeta), where zeta is the mean of atanh(r) over folds with weights
n - 3. Its interval is tanh(zeta - bias +- t * se), extended to the estimate where it would not
include it. t is the quantile of Student's distribution with sum(n - 3) degrees of freedom.

**Standard error.** Without patient i, fold f has z_f(-i) in place of z_f. The deviation of the
patient is w_f (z_f(-i) - its mean over i) / sum(w), and the variance of zeta is the sum of squared
deviations, each times (n - 1) / n (Tukey 1958; Efron & Stein, Ann. Stat. 1981). A fold without one
patient has n - 1 of them, and atanh(r) of few patients is much less certain, so that this is too
wide in small folds: on normal values (n - 1) / (n - 3) times the variance of atanh(r), whatever the
true r. It is divided by this factor here, which leaves 4 % too much at n = 6 and nothing at n = 25.
Unlike the textbook variance 1 / sum(n - 3), it holds for values with heavy tails as well.

**Bias.** The expected atanh(r) of n patients is above that of the population by about
r / (2 (n - 1)) (Hotelling, J. R. Stat. Soc. B 1953). At n = 6 and r = 0.5 this is 0.05, and it is
the same for all genes, so that it matters to a median over genes. The bias of rank correlations is
smaller and is not subtracted.

**Medians over genes.** The median is not a smooth function of the patients, so that leaving out one
patient at a time does not give its standard error. Instead, each patient's deviation is multiplied
by a random number of mean 0 and variance 1, and the sum over patients is added to zeta of every
gene (multiplier bootstrap). This moves all genes together, as other patients would. The standard
deviation of the median over such draws is its standard error. Two predictors are moved by the same
numbers, which gives the interval of their difference.

The intervals are about other patients of the same kind, predicted by *these* models. Errors of the
folds are more alike than they assume, because the test patients of one fold trained the models of
the others: without any effect, intervals of single genes cover 84 to 91 % instead of 95 %. p-values
allow for this. ``experiments/results/intervals.md`` has the coverage, also of other methods.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.statistics.fold_combination import MAX_R, MIN_FOLDS, combine_folds, strata
from tcgn_mil.statistics.gene_metrics import MIN_SAMPLES, standardised_pairs
from tcgn_mil.statistics.variation import MIN_VARIANCE_LEFT
from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray

COVERAGE = 0.95
REPLICATES = 1000
_GENES_AT_ONCE = 512
_VALUES_AT_ONCE = 2**23  # of (replicates, genes) in float32: 32 MB


class Jackknife(NamedTuple):
    """Combined correlations, and by how much each patient moves them.

    Attributes
    ----------
    r
        (G,) combined correlation, NaN where it is not defined.
    bias
        (G,) small-sample bias of its Fisher z.
    freedom
        (G,) degrees of freedom of the standard error.
    deviations
        (U, G) float32, one row for each unit that is left out: a patient, or a donor within a fold
        and cohort. The sum of squares over units is the variance of Fisher's z. 0 for a patient
        without a value of the gene.
    """

    r: Float64Array
    bias: Float64Array
    freedom: Float64Array
    deviations: NDArray[np.float32]

    def of_genes(self, chosen: NDArray[np.bool_]) -> Jackknife:
        """Return the same for some of the genes, given as a mask (G,)."""
        return Jackknife(
            self.r[chosen], self.bias[chosen], self.freedom[chosen], self.deviations[:, chosen]
        )


class Interval(NamedTuple):
    """Lower and upper bounds (G,) of the interval of each gene."""

    low: Float64Array
    high: Float64Array


class MedianInterval(NamedTuple):
    """Lower and upper bound of the interval of a median over genes."""

    low: float
    high: float


def jackknife(
    truth: FloatArray,
    predicted: FloatArray,
    fold_of: IntArray,
    cohort_of: IntArray | None = None,
    *,
    donor_of: IntArray | None = None,
    min_folds: int = MIN_FOLDS,
    spent: int = 0,
    ranks: bool = False,
) -> Jackknife:
    """Compute the combined r of each gene, and leave out each patient in turn.

    Parameters
    ----------
    truth, predicted
        (M, G), NaN where a value is missing. A patient without a value of a gene is left out of
        that gene.
    fold_of
        (M,) test fold of each patient.
    cohort_of
        (M,) cohort of each patient, if there are several. r is then taken within fold and cohort.
    donor_of
        (M,) person that each row belongs to, if a person has several rows. The rows of a person
        are left out together.
    min_folds
        A gene whose r is defined in fewer folds is NaN.
    spent
        Degrees of freedom of covariates that were regressed out within folds.
    ranks
        Whether the values are ranks, or residuals of ranks. `bias` is then 0. Ranks are not made
        anew when a patient is left out.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(60, 1))
    >>> values = jackknife(truth, truth + rng.normal(size=(60, 1)), np.arange(60) % 3)
    >>> interval = gene_interval(values)
    >>> interval.low.round(2), values.r.round(2), interval.high.round(2)
    (array([0.46]), array([0.63]), array([0.74]))
    """
    within = strata(fold_of, cohort_of)
    rows_of = [np.flatnonzero(within.of == stratum) for stratum in range(len(within.fold))]
    paired = [(rows, _members(rows if donor_of is None else donor_of[rows])) for rows in rows_of]
    units = sum(len(rows if member is None else member) for rows, member in paired)
    genes = truth.shape[1]
    r, bias, freedom = np.empty((3, genes))
    out = Jackknife(r, bias, freedom, np.empty((units, genes), dtype=np.float32))
    for start in range(0, genes, _GENES_AT_ONCE):
        chosen = slice(start, start + _GENES_AT_ONCE)
        parts = [
            _leave_out(truth[rows, chosen], predicted[rows, chosen], member)
            for rows, member in paired
        ]
        block = _combined(parts, within.fold, min_folds, spent)
        out.r[chosen], out.freedom[chosen] = block.r, block.freedom
        out.bias[chosen] = 0 if ranks else block.bias
        out.deviations[:, chosen] = block.deviations
    return out


class _Left(NamedTuple):
    """One fold (and cohort): r, and r without each of its U units.

    `r`, `n` (rows) and `units` are (G,), `r_without` is (U, G) and NaN where it is not defined, and
    `present` (U, G) says whether the unit has a value of the gene.
    """

    r: Float64Array
    n: Float64Array
    units: Float64Array
    r_without: Float64Array
    present: NDArray[np.bool_]


def _members(donors: IntArray) -> Float64Array | None:
    """Return which rows belong to which donor, (U, M); None if every row is a donor."""
    people, donor = np.unique(donors, return_inverse=True)
    return None if len(people) == len(donors) else np.eye(len(people))[:, donor]


def _leave_out(first: FloatArray, second: FloatArray, member: Float64Array | None) -> _Left:
    """Compute r of one fold, and r without each unit."""
    pairs = standardised_pairs(first, second)
    x, y = pairs.first, pairs.second
    products = (pairs.known.astype(np.float64), x, y, x * x, y * y, x * y)
    # x and y have mean 0 and mean square 1, so the sums over the other units follow from the sums
    # over the unit that is left out.
    n, own_x, own_y, own_xx, own_yy, own_xy = (
        values if member is None else member @ values for values in products
    )
    left = pairs.n - n
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y = -own_x / left, -own_y / left
        variance_x = (pairs.n - own_xx) / left - np.square(mean_x)
        variance_y = (pairs.n - own_yy) / left - np.square(mean_y)
        covariance = (pairs.n * pairs.r - own_xy) / left - mean_x * mean_y
        r_without = np.clip(covariance / np.sqrt(variance_x * variance_y), -1, 1)
        defined = (
            (left >= MIN_SAMPLES)
            & (variance_x > MIN_VARIANCE_LEFT)
            & (variance_y > MIN_VARIANCE_LEFT)
        )
    present = n > 0
    return _Left(
        pairs.r, pairs.n, present.sum(axis=0), np.where(defined, r_without, np.nan), present
    )


def _combined(parts: list[_Left], fold_of: IntArray, min_folds: int, spent: int) -> Jackknife:
    """Combine the folds of a block of genes; `fold_of` is the fold of each part."""
    r, units = (np.stack(values) for values in zip(*((p.r, p.units) for p in parts), strict=True))
    n = np.stack([part.n for part in parts]) - spent
    combined = combine_folds(r, n, min_folds=min_folds, fold_of=fold_of)
    weight = np.where(np.isfinite(r), np.maximum(n - 3, 0), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = weight / weight.sum(axis=0)
    z = _fisher(np.where(weight > 0, r, 0))
    total = (share * z).sum(axis=0)
    deviations = [
        _deviations(*of_fold, total, spent) for of_fold in zip(parts, z, share, strict=True)
    ]
    bias = np.nansum(share * r / (2 * np.maximum(n - 1, 1)), axis=0)
    freedom = np.where(weight > 0, np.maximum(units - 3 - spent, 1), 0).sum(axis=0)
    return Jackknife(combined.r, bias, freedom, np.concatenate(deviations).astype(np.float32))


def _fisher(r: Float64Array) -> Float64Array:
    return np.arctanh(np.clip(r, -MAX_R, MAX_R))


def _deviations(
    part: _Left, z: Float64Array, share: Float64Array, total: Float64Array, spent: int
) -> Float64Array:
    """Return the scaled deviations (U, G) of the units of one fold.

    Parameters
    ----------
    z, share
        (G,) Fisher z of the fold and its share of the weights.
    total
        (G,) combined Fisher z.
    """
    units = part.units
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = share * (z - _fisher(part.r_without))
        # A fold that has no r without this unit (a fold of one donor, or a gene that only one
        # patient expresses) would be left out itself, and its weight would go to the other folds.
        lost = share * (z - total) / (1 - share)
        moved = np.where(np.isfinite(part.r_without), moved, lost)
        moved = np.where(part.present, moved, 0)
        several = units > 1
        moved -= np.where(part.present & several, moved.sum(axis=0) / units, 0)
        # The fold of a single donor is one value. Its squared distance from the others is its
        # variance.
        scale = np.where(several, (units - 1) / units, 1)
        # Residuals of covariates are not made anew, so that (n - 3) / (n - 1) gives the variance of
        # n patients, 1 / (n - 3). Covariates with q degrees of freedom leave 1 / (n - q - 3).
        free = units - 3
        scale *= np.where(free > spent, free**2 / ((units - 1) * (free - spent)), 1)
    return np.where(share > 0, moved * np.sqrt(scale), 0)


def gene_interval(values: Jackknife) -> Interval:
    """Return the 95 % interval of each gene's combined r, from :func:`jackknife`."""
    error = np.sqrt(np.einsum("ug,ug->g", *(values.deviations,) * 2, dtype=np.float64))
    half = _quantile(values.freedom) * error
    middle = _middle(values)
    return Interval(
        np.minimum(np.tanh(middle - half), values.r), np.maximum(np.tanh(middle + half), values.r)
    )


def median_interval(
    values: Jackknife, *, replicates: int = REPLICATES, seed: int = 0
) -> MedianInterval:
    """Return the 95 % interval of the median of the combined r over genes.

    Parameters
    ----------
    values
        From :func:`jackknife`. Genes without an r are left out.
    replicates
        Number of random draws that give the standard error.
    seed
        Seed of the draws.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(60, 50))
    >>> values = jackknife(truth, truth + rng.normal(size=(60, 50)), np.arange(60) % 3)
    >>> low, high = median_interval(values)
    >>> bool(low < np.median(values.r) < high)
    True
    """
    values = values.of_genes(np.isfinite(values.r))
    if not len(values.r):
        return MedianInterval(np.nan, np.nan)
    middle = np.median(_middle(values))
    half = _quantile(np.median(values.freedom)) * np.std(_drawn_medians(values, replicates, seed))
    low, high = np.tanh(middle - half), np.tanh(middle + half)
    estimate = np.median(values.r)
    return MedianInterval(float(min(low, estimate)), float(max(high, estimate)))


def median_difference_interval(
    first: Jackknife, second: Jackknife, *, replicates: int = REPLICATES, seed: int = 0
) -> MedianInterval:
    """Return the 95 % interval of the difference of two predictors' medians over genes.

    Parameters
    ----------
    first, second
        From :func:`jackknife`, for the same patients, folds and genes. The medians are over the
        genes for which both have an r.
    replicates, seed
        As in :func:`median_interval`.
    """
    both = np.isfinite(first.r) & np.isfinite(second.r)
    if not both.any():
        return MedianInterval(np.nan, np.nan)
    pair = [values.of_genes(both) for values in (first, second)]
    drawn = [np.tanh(_drawn_medians(values, replicates, seed)) for values in pair]
    freedom = np.median(np.minimum(pair[0].freedom, pair[1].freedom))
    half = _quantile(freedom) * np.std(drawn[0] - drawn[1])
    middle = np.subtract(*(np.tanh(np.median(_middle(values))) for values in pair))
    estimate = np.median(pair[0].r) - np.median(pair[1].r)
    return MedianInterval(float(min(middle - half, estimate)), float(max(middle + half, estimate)))


def _middle(values: Jackknife) -> Float64Array:
    """Return the middle (G,) of the interval of each gene, as Fisher's z."""
    return _fisher(values.r) - values.bias


def _drawn_medians(values: Jackknife, replicates: int, seed: int) -> Float64Array:
    """Return the median of z over genes (R,) if every patient's deviation has a random size."""
    rng = np.random.default_rng(seed)
    middle = _middle(values).astype(np.float32)
    at_once = max(1, _VALUES_AT_ONCE // len(middle))
    medians = []
    for start in range(0, replicates, at_once):
        size = min(at_once, replicates - start), len(values.deviations)
        moved = middle + rng.standard_normal(size, dtype=np.float32) @ values.deviations
        medians.append(np.median(moved, axis=1))
    return np.concatenate(medians).astype(np.float64)


def _quantile(freedom: FloatArray | np.floating) -> Float64Array:
    from scipy import stats

    return np.asarray(stats.t.ppf((1 + COVERAGE) / 2, freedom))
