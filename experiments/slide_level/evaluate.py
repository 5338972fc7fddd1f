"""Compare out-of-fold predictions of slide models with their baselines, gene by gene.

See docs/protocol.md, sections Metrics per gene, Predictable genes and Baselines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.statistics.gene_metrics import median_over_genes
from tcgn_mil.statistics.jackknife import (
    Jackknife,
    gene_interval,
    jackknife,
    median_difference_interval,
    median_interval,
)
from tcgn_mil.statistics.out_of_fold import combined_r, fold_correlations, pooled_metrics
from tcgn_mil.statistics.p_values import MAX_Q, benjamini_hochberg, null_p_values, steiger_p

MODEL, UNTRAINED = "model", "untrained"
# Baselines that a predictable gene must beat.
GATES = ("ridge_colour", "ridge_mean_features", "kernel_mean_features", "zero_shot", UNTRAINED)
_SEQUOIA_P, _SEQUOIA_Q = 0.05, 0.2


@dataclass(frozen=True, eq=False)
class PatientGroups:
    """Groups of the M tested patients that the statistics respect.

    Attributes
    ----------
    fold_of
        (M,) test fold of each patient.
    cohort_of
        (M,) cohort of each patient; r is then taken within fold and cohort. None for one cohort.
    donor_of
        (M,) person behind each row, for cohorts with several rows of a person; the rows of a person
        are left out together where intervals are made. None if each row is a person.
    """

    fold_of: NDArray[np.int64]
    cohort_of: NDArray[np.int64] | None = None
    donor_of: NDArray[np.int64] | None = None


class SlideTables(NamedTuple):
    """Results of a run: ``genes`` has one row per gene, ``headline`` one row per predictor."""

    genes: pd.DataFrame
    headline: pd.DataFrame


def out_of_fold_tables(
    genes: Sequence[str],
    truth: NDArray[np.floating],
    predictions: Mapping[str, NDArray[np.floating]],
    groups: PatientGroups,
    *,
    null_z: NDArray[np.floating] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> SlideTables:
    """Make the table of genes and the table of predictors.

    Parameters
    ----------
    genes
        Names of the G genes.
    truth
        (M, G) measured values. NaN, where a patient has no value or its fold has no such gene,
        leaves the patient out of the statistics of the gene.
    predictions
        (M, G) out-of-fold predictions by predictor, NaN likewise; one of them is ``model``.
    groups
        Folds, cohorts and persons of the patients.
    null_z
        (R, G) combined z of refits on permuted labels. Without them, p-values are approximate.
    replicates
        Random draws for the intervals of medians over genes (:mod:`tcgn_mil.statistics.jackknife`).
    seed
        Seed of the draws.

    Returns
    -------
    SlideTables
        ``genes`` has for each predictor ``r_<name>``, the r within test folds, combined by Fisher z
        with weights n - 3 (NaN if fewer than three folds have n > 3), and ``pooled_r_<name>``, the
        r over all patients at once, which is biased downwards. For the model it also has
        ``low_model`` and ``high_model`` (95 % interval), ``p_model`` (one-sided), ``q_model``
        (Benjamini-Hochberg), ``pooled_spearman_model``, ``pooled_r2_model``, ``pooled_rmse_model``,
        ``n`` (patients), ``predictable``, and ``sequoia`` where there is an untrained network.
        ``headline`` has the median r over genes with its interval, by how much the model's median
        is above it (with an interval over the same patients), the median pooled r and the number of
        genes.
    """
    table = pd.DataFrame({"gene": list(genes)})
    rows: list[dict[str, object]] = []
    of_model: Jackknife | None = None
    for name in sorted(predictions, key=lambda name: name != MODEL):  # the model comes first
        predicted = predictions[name]
        combined = combined_r(truth, predicted, groups.fold_of, groups.cohort_of)
        values = jackknife(
            truth, predicted, groups.fold_of, groups.cohort_of, donor_of=groups.donor_of
        )
        table[f"r_{name}"] = combined.r
        if name == MODEL:
            of_model = values
            table["low_model"], table["high_model"] = gene_interval(values)
            table["p_model"] = null_p_values(combined.z, null_z)
            table["q_model"] = benjamini_hochberg(table["p_model"].to_numpy())
        table[f"pooled_r_{name}"] = _pooled_r(truth, predicted)
        assert of_model is not None  # the model comes first
        rows.append(_headline(table, name, values, of_model, replicates, seed))
    pooled = pooled_metrics(truth, predictions[MODEL])
    table[f"pooled_spearman_{MODEL}"] = pooled.spearman
    table[f"pooled_r2_{MODEL}"] = pooled.r2
    table[f"pooled_rmse_{MODEL}"] = pooled.rmse
    table["n"] = pooled.n
    table["predictable"] = predictable(table)
    if UNTRAINED in predictions:
        table["sequoia"] = sequoia_rule(table, truth, predictions[MODEL], predictions[UNTRAINED])
    return SlideTables(table, pd.DataFrame(rows))


def _pooled_r(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (G,) r over all patients that have both values, without regard to folds."""
    return fold_correlations(truth, predicted, np.zeros(len(truth), dtype=np.int64))[0][0]


def predictable(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Mark the genes with q below 0.05 and an r above that of every baseline that has one.

    See docs/protocol.md, section Predictable genes.

    Examples
    --------
    The second gene is predicted better by ridge regression on colour, and the third is not
    significant.

    >>> table = pd.DataFrame(
    ...     {
    ...         "q_model": [0.01, 0.01, 0.2],
    ...         "r_model": [0.5, 0.3, 0.6],
    ...         "r_ridge_colour": [0.4, 0.35, 0.1],
    ...     }
    ... )
    >>> predictable(table).tolist()
    [True, False, False]
    """
    passed = (table["q_model"] < MAX_Q).to_numpy()
    for gate in GATES:
        # A baseline that is NaN for a gene, for example zero-shot for a gene that the spots did not
        # have, is not counted against the gene.
        if (column := f"r_{gate}") in table:
            passed &= ((table["r_model"] > table[column]) | table[column].isna()).to_numpy()
    return passed


def sequoia_rule(
    table: pd.DataFrame,
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
    untrained: NDArray[np.floating],
) -> NDArray[np.bool_]:
    """Mark the genes that SEQUOIA (Pizurica et al. 2024) would count as predicted.

    The rule is kept for comparison with the counts of genes in that paper. As in that paper, r
    is pooled over folds. A gene passes if r is above 0 with p < 0.05 and, after Benjamini-Hochberg
    correction of p, q < 0.2; if the squared error is below that of an untrained network; and if r
    is above that of the untrained network with p < 0.05 in Steiger's test for two correlations
    that share one variable (here, the measured values).
    """
    from scipy import stats

    r, r_untrained = (table[f"pooled_r_{name}"].to_numpy() for name in (MODEL, UNTRAINED))
    n = table["n"].to_numpy()
    # One-sided test of a correlation: t = r sqrt((n - 2) / (1 - r^2)), n - 2 degrees of freedom.
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.t.sf(r * np.sqrt((n - 2) / (1 - np.square(r))), n - 2)
    between = _pooled_r(np.where(np.isfinite(truth), predicted, np.nan), untrained)
    # An untrained network that is constant for a gene has no r. It predicts nothing, so its r, and
    # its r with the model, count as 0.
    steiger = steiger_p(r, np.nan_to_num(r_untrained), np.nan_to_num(between), n)
    # A patient without a value of the gene adds nothing to either error.
    error, error_untrained = (
        np.square(np.nan_to_num(truth - values)).sum(axis=0) for values in (predicted, untrained)
    )
    passed = (r > 0) & (p < _SEQUOIA_P) & (benjamini_hochberg(p) < _SEQUOIA_Q)
    return np.asarray(
        passed
        & (error < error_untrained)
        & (r > np.nan_to_num(r_untrained))
        & (steiger < _SEQUOIA_P)
    )


def _headline(
    table: pd.DataFrame,
    name: str,
    values: Jackknife,
    of_model: Jackknife,
    replicates: int,
    seed: int,
) -> dict[str, object]:
    """Return the row of one predictor.

    The model is compared with it over the genes for which both have an r, and the interval of the
    difference is over the same patients, because their errors are correlated.
    """
    interval = median_interval(values, replicates=replicates, seed=seed)
    r, r_of_model = (table[f"r_{predictor}"].to_numpy() for predictor in (name, MODEL))
    row: dict[str, object] = {
        "predictor": name,
        "median_r": median_over_genes(r),
        "low": interval.low,
        "high": interval.high,
        "model_above_by": np.nan,
        "model_above_low": np.nan,
        "model_above_high": np.nan,
        "median_pooled_r_biased": median_over_genes(table[f"pooled_r_{name}"].to_numpy()),
        "genes": int(np.isfinite(r).sum()),
    }
    both = np.isfinite(r) & np.isfinite(r_of_model)
    if name != MODEL and both.any():
        difference = median_difference_interval(of_model, values, replicates=replicates, seed=seed)
        row["model_above_by"] = median_over_genes(r_of_model[both]) - median_over_genes(r[both])
        row["model_above_low"], row["model_above_high"] = difference
    return row
