"""Agreement of out-of-fold predictions and measured values over patients.

Arrays are (M, G): M patients and G genes. r is computed within each test fold and combined over
folds by Fisher z (:mod:`tcgn_mil.statistics.fold_combination`; docs/protocol.md, section Metrics
per gene).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tcgn_mil.statistics.fold_combination import CombinedR, combine_folds, strata
from tcgn_mil.statistics.gene_metrics import (
    GeneMetrics,
    gene_metrics,
    pearson,
    standardised_pairs,
)
from tcgn_mil.statistics.grouped_correlation import grouped_pearson, rows_by_group
from tcgn_mil.statistics.ranks import paired_ranks
from tcgn_mil.statistics.variation import varies
from tcgn_mil.types.arrays import Float64Array, FloatArray, IntArray

_LEAST_VARIANCE = 0.01  # of a gene, as a share of the median over genes


class FoldCorrelations(NamedTuple):
    """Correlation of each gene within each test fold.

    Attributes
    ----------
    r
        (folds, G), NaN where r is not defined.
    n
        (folds, G) number of patients used.
    """

    r: Float64Array
    n: IntArray


def fold_correlations(
    truth: FloatArray, predicted: FloatArray, fold_of: IntArray
) -> FoldCorrelations:
    """Compute the Pearson correlation of each gene within each test fold.

    Parameters
    ----------
    truth, predicted
        (M, G), NaN where a value is missing. A patient without a value of a gene is left out of
        that gene's r. If both are float32, r is computed in single precision within 1e-5, and in
        double precision wherever that would be less exact.
    fold_of
        (M,) test fold of each patient.

    Returns
    -------
    Folds are in the order of their numbers.
    """
    folds = rows_by_group(fold_of)
    single = truth.dtype == predicted.dtype == np.float32
    # Null replicates call this function some hundred times on thousands of genes: single precision
    # is what makes refitted nulls affordable.
    fast = grouped_pearson(truth, predicted, folds) if single else None
    r = np.full((len(folds), truth.shape[1]), np.nan)
    n = np.zeros(r.shape, dtype=np.int64)
    for row, rows in enumerate(folds):
        chosen = np.ones(truth.shape[1], dtype=np.bool_)
        if fast is not None:
            chosen = ~fast.exact[row]
            r[row], n[row] = fast.r[row], np.count_nonzero(fold_of == fold_of[rows][0])
        if chosen.any():
            r[row, chosen], n[row, chosen] = _exact_r(
                truth[rows][:, chosen], predicted[rows][:, chosen]
            )
    return FoldCorrelations(r, n)


def _exact_r(left: FloatArray, right: FloatArray) -> tuple[Float64Array, IntArray]:
    """Compute r (G,) in double precision over patients with both values, and count them (G,)."""
    n = (np.isfinite(left) & np.isfinite(right)).sum(axis=0)
    if (n == len(left)).all():
        return pearson(left, right), n
    return standardised_pairs(left, right).r, n


def combined_r(
    truth: FloatArray,
    predicted: FloatArray,
    fold_of: IntArray,
    cohort_of: IntArray | None = None,
) -> CombinedR:
    """Compute the correlation of each gene within test folds, combined over folds by Fisher z.

    Parameters
    ----------
    truth, predicted, fold_of
        As in :func:`fold_correlations`.
    cohort_of
        (M,) cohort of each patient, if there are several. r is then computed within fold and
        cohort, since the levels of two cohorts are not comparable.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(60, 2))
    >>> predicted = np.stack([truth[:, 0] + rng.normal(size=60), rng.normal(size=60)], axis=1)
    >>> combined_r(truth, predicted, np.arange(60) % 3).r.round(1)
    array([0.6, 0.1])
    """
    within = strata(fold_of, cohort_of)
    r, n = fold_correlations(truth, predicted, within.of)
    return combine_folds(r, n.astype(np.float64), fold_of=within.fold)


def pooled_metrics(truth: FloatArray, predicted: FloatArray) -> GeneMetrics:
    """Compute the metrics of each gene over the patients that have both values, over all folds.

    Parameters
    ----------
    truth, predicted
        (M, G), NaN where a value is missing.
    """
    finite = np.isfinite(truth) & np.isfinite(predicted)
    n = finite.sum(axis=0)
    if finite.all():
        return gene_metrics(truth, predicted)
    one_fold = np.zeros(len(truth), dtype=np.int64)
    truth, predicted = (
        np.where(finite, values, np.nan).astype(np.float64) for values in (truth, predicted)
    )
    r = fold_correlations(truth, predicted, one_fold).r[0]
    spearman = fold_correlations(*paired_ranks(truth, predicted), one_fold).r[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.nansum(truth, axis=0) / n
        error = np.nansum(np.square(truth - predicted), axis=0)
        total = np.nansum(np.square(truth - mean), axis=0)
        # Missing values become the mean, so that `varies` looks at the known ones only.
        r2 = np.where(varies(np.where(finite, truth, mean)), 1 - error / total, np.nan)
        return GeneMetrics(r, spearman, r2, np.sqrt(error / n), n.astype(np.int64))


class PatientAgreement(NamedTuple):
    """Agreement of each patient's prediction and measured values over the genes.

    Attributes
    ----------
    squared_error
        (M,) mean over genes of the squared error, in units of the variance of the gene over
        patients: 1 if the prediction is the mean of the gene in every patient.
    r
        (M,) Pearson correlation over genes, after the mean of each gene is taken away.
    """

    squared_error: Float64Array
    r: Float64Array


def patient_agreement(truth: FloatArray, predicted: FloatArray) -> PatientAgreement:
    """Compute how well each patient is predicted, over the genes that vary.

    Genes with less than a hundredth of the median variance are left out: in units of so small a
    variance, one of them would outweigh all others.

    Parameters
    ----------
    truth, predicted
        (M, G), NaN where a value is missing.

    Returns
    -------
    PatientAgreement
        NaN for patients without a gene; r needs three genes.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 1.0, 2.0]])
    >>> agreement = patient_agreement(truth, truth + [[0.0], [0.0], [1.0]])
    >>> agreement.squared_error
    array([0. , 0. , 1.5])
    """
    known = np.isfinite(truth) & np.isfinite(predicted)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = known.sum(axis=0)
        mean = np.where(known, truth, 0).sum(axis=0, dtype=np.float64) / n
        variance = np.where(known, np.square(truth - mean), 0).sum(axis=0) / n
    usual = np.median(variance[variance > 0]) if (variance > 0).any() else 0.0
    steady = variance < _LEAST_VARIANCE * usual
    usable = known & ~steady & varies(np.where(known, truth, mean))
    standard = np.sqrt(np.where(variance > 0, variance, 1))
    with np.errstate(invalid="ignore"):
        measured = np.where(usable, (truth - mean) / standard, np.nan)
        expected = np.where(usable, (predicted - mean) / standard, np.nan)
        genes = usable.sum(axis=1)
        error = np.where(usable, np.square(measured - expected), 0).sum(axis=1)
        squared_error = np.where(genes > 0, error / np.maximum(genes, 1), np.nan)
    # Patients take the place of genes: r of each column of the transposed arrays.
    one_fold = np.zeros(measured.shape[1], dtype=np.int64)
    r = fold_correlations(measured.T, expected.T, one_fold).r[0]
    return PatientAgreement(squared_error, r)
