"""Slide-level results out of fold: per-gene correlation over patients beside baselines (PROTOCOL, Metrics)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.baselines import ridge_predictions
from tcgn_mil.statistics.bootstrap import patient_bootstrap, percentile_interval
from tcgn_mil.statistics.gene_metrics import median_over_genes
from tcgn_mil.statistics.out_of_fold import combined_r, fold_correlations, known_metrics
from tcgn_mil.statistics.p_values import MAX_Q, benjamini_hochberg, null_p_values, steiger_p

MODEL, UNTRAINED = "model", "untrained"
GATES = ("ridge_colour", "ridge_mean_features", "zero_shot", UNTRAINED)
_SEQUOIA_P, _SEQUOIA_Q = 0.05, 0.2


def patient_baselines(
    train: Mapping[str, NDArray[np.floating]],
    train_targets: NDArray[np.floating],
    test: Mapping[str, NDArray[np.floating]],
) -> dict[str, NDArray[np.float32]]:
    """Baseline name -> (M, G) predictions, from descriptors of patients: ridge on each, and the training mean.

    `train` and `test` map a descriptor's name (``mean_features``, ``colour``) to (M, F).
    """
    count = len(next(iter(test.values())))
    unknown = ~np.isfinite(train_targets).any(axis=0)
    train_targets = np.where(unknown, 0, train_targets)
    train_mean = np.nanmean(train_targets, axis=0)
    train_targets = np.where(
        np.isfinite(train_targets), train_targets, train_mean
    )  # ridge knows no missing targets
    found = {"training_mean": np.broadcast_to(train_mean, (count, len(train_mean)))}
    for name, descriptors in train.items():
        found[f"ridge_{name}"] = ridge_predictions(descriptors, train_targets, test[name])
    return {
        name: np.where(unknown, np.nan, values).astype(np.float32) for name, values in found.items()
    }


class SlideTables(NamedTuple):
    """``genes``: a row a gene; ``headline``: a row a predictor."""

    genes: pd.DataFrame
    headline: pd.DataFrame


def out_of_fold_tables(
    genes: Sequence[str],
    truth: NDArray[np.floating],
    predictions: Mapping[str, NDArray[np.floating]],
    fold_of: NDArray[np.int64],
    *,
    cohort_of: NDArray[np.int64] | None = None,
    donor_of: NDArray[np.int64] | None = None,
    null_z: NDArray[np.floating] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> SlideTables:
    """Results of a run.

    Parameters
    ----------
    truth
        (M, G), NaN where a patient, or its fold, has no such target: it is left out of that gene's statistics.
    predictions
        Predictor name -> (M, G) out-of-fold, NaN likewise.
    fold_of
        (M,) test fold of each patient.
    cohort_of
        (M,) cohort of each patient, where there are several: r is then within fold and cohort.
    donor_of
        (M,) person that each row is of, where some have several; they are resampled together.
    null_z
        (R, G) combined z of refits on permuted labels; None makes p-values approximate.
    replicates, seed
        Of the resampling of patients behind the intervals.

    Returns
    -------
    ``genes``: ``r_<name>``, r within each test fold combined by Fisher z weighted by n - 3 (NaN below three folds with
    n > 3); for the model its 95 % interval ``low_model`` and ``high_model``, the one-sided ``p_model``, ``q_model``
    (Benjamini-Hochberg), ``predictable`` (q below 0.05 and r above that of the baselines) and ``sequoia``, that tool's
    rule; ``pooled_r_<name>``: over all patients at once, biased downwards, for comparison only; for the model also
    ``pooled_spearman_model``, ``pooled_r2_model``, ``pooled_rmse_model`` and ``n``.
    ``headline``: median r with its interval, the difference of the model's median to it with its interval over the same
    resampled patients, pooled median, genes.
    """
    table = pd.DataFrame({"gene": list(genes)})
    rows: list[dict[str, object]] = []
    own = np.empty((0, 0))
    for name in sorted(predictions, key=lambda name: name != MODEL):
        predicted = predictions[name]
        found = combined_r(truth, predicted, fold_of, cohort_of)
        drawn = patient_bootstrap(
            truth,
            predicted,
            fold_of,
            cohort_of,
            donor_of=donor_of,
            replicates=replicates,
            seed=seed,
        )
        table[f"r_{name}"] = found.r
        if name == MODEL:
            table["low_model"], table["high_model"] = percentile_interval(drawn)
            table["p_model"] = null_p_values(found.z, null_z)
            table["q_model"] = benjamini_hochberg(table["p_model"].to_numpy())
        table[f"pooled_r_{name}"] = _pooled_r(truth, predicted)
        own = drawn if name == MODEL else own
        rows.append(_headline(table, name, drawn, own))
    pooled_model = known_metrics(truth, predictions[MODEL])
    for name, values in (
        ("spearman", pooled_model.spearman),
        ("r2", pooled_model.r2),
        ("rmse", pooled_model.rmse),
    ):
        table[f"pooled_{name}_{MODEL}"] = values
    table["n"] = pooled_model.n
    table["predictable"] = predictable(table)
    if UNTRAINED in predictions:
        table["sequoia"] = sequoia_rule(table, truth, predictions[MODEL], predictions[UNTRAINED])
    return SlideTables(table, pd.DataFrame(rows))


def _pooled_r(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """(G,) over all patients that have both values."""
    return fold_correlations(truth, predicted, np.zeros(len(truth), dtype=np.int64))[0][0]


def predictable(table: pd.DataFrame) -> NDArray[np.bool_]:
    """q below 0.05 and r above that of every gating baseline that has one (PROTOCOL)."""
    found = (table["q_model"] < MAX_Q).to_numpy()
    for gate in GATES:
        if (column := f"r_{gate}") in table:
            found &= ((table["r_model"] > table[column]) | table[column].isna()).to_numpy()
    return found


def sequoia_rule(
    table: pd.DataFrame,
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
    untrained: NDArray[np.floating],
) -> NDArray[np.bool_]:
    """The rule of SEQUOIA (Pizurica et al. 2024), on r pooled over folds as there.

    r above 0 with p < 0.05, root mean squared error below and r above those of an untrained model, Steiger's test of
    the two r at p < 0.05, and Benjamini-Hochberg below 0.2 over genes on the p of r.
    """
    from scipy import stats

    r, r_untrained = (table[f"pooled_r_{name}"].to_numpy() for name in (MODEL, UNTRAINED))
    n = table["n"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stats.t.sf(r * np.sqrt((n - 2) / (1 - np.square(r))), n - 2)
    between = _pooled_r(np.where(np.isfinite(truth), predicted, np.nan), untrained)
    steiger = steiger_p(r, np.nan_to_num(r_untrained), np.nan_to_num(between), n)
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
    table: pd.DataFrame, name: str, drawn: NDArray[np.floating], model_drawn: NDArray[np.floating]
) -> dict[str, object]:
    """One predictor; the model is compared with it over the genes that both have, and the same resampled patients."""
    low, high = percentile_interval(_medians(drawn)[:, None])
    r, own = (table[f"r_{one}"].to_numpy() for one in (name, MODEL))
    row: dict[str, object] = {
        "predictor": name,
        "median_r": median_over_genes(r),
        "low": float(low[0]),
        "high": float(high[0]),
        "model_above_by": np.nan,
        "model_above_low": np.nan,
        "model_above_high": np.nan,
        "median_pooled_r_biased": median_over_genes(table[f"pooled_r_{name}"].to_numpy()),
        "genes": int(np.isfinite(r).sum()),
    }
    both = np.isfinite(r) & np.isfinite(own)
    if name != MODEL and both.any():
        shared = both & np.isfinite(drawn).any(axis=0) & np.isfinite(model_drawn).any(axis=0)
        under, over = percentile_interval(
            (_medians(model_drawn[:, shared]) - _medians(drawn[:, shared]))[:, None]
        )
        row["model_above_by"] = median_over_genes(own[both]) - median_over_genes(r[both])
        row["model_above_low"], row["model_above_high"] = float(under[0]), float(over[0])
    return row


def _medians(drawn: NDArray[np.floating]) -> NDArray[np.float64]:
    """(R,) median over the genes that have an r."""
    out = np.full(len(drawn), np.nan)
    known = np.isfinite(drawn).any(axis=1)
    if known.any():
        out[known] = np.nanmedian(drawn[known], axis=1)
    return out
