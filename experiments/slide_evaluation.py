"""Slide-level results out of fold: per-gene correlation over patients beside baselines (PROTOCOL, Metrics)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.baselines import ridge_predictions
from tcgn_mil.metrics import combine_folds, gene_metrics, median_over_genes, pearson

MODEL = "model"


def patient_baselines(
    train: Mapping[str, NDArray[np.floating]],
    train_targets: NDArray[np.floating],
    test: Mapping[str, NDArray[np.floating]],
) -> dict[str, NDArray[np.float32]]:
    """Baseline name -> (M, G) predictions, from descriptors of patients: ridge on each, and the training mean.

    `train` and `test` map a descriptor's name (``mean_features``, ``colour``) to (M, F).
    """
    count = len(next(iter(test.values())))
    train_mean = np.nanmean(train_targets, axis=0)
    train_targets = np.where(np.isfinite(train_targets), train_targets, train_mean)  # ridge knows no missing targets
    found = {"training_mean": np.broadcast_to(train_mean, (count, len(train_mean)))}
    for name, descriptors in train.items():
        found[f"ridge_{name}"] = ridge_predictions(descriptors, train_targets, test[name])
    return {name: np.asarray(values, dtype=np.float32) for name, values in found.items()}


def out_of_fold_table(
    genes: Sequence[str],
    truth: NDArray[np.floating],
    predictions: Mapping[str, NDArray[np.floating]],
    fold_of: NDArray[np.int64],
) -> pd.DataFrame:
    """One row a gene.

    Parameters
    ----------
    truth
        (M, G), NaN where a patient's fold has no such target.
    predictions
        Predictor name -> (M, G) out-of-fold, NaN likewise.
    fold_of
        (M,) test fold of each patient.

    Returns
    -------
    ``r_<name>``: r within each test fold, combined by Fisher z weighted by n - 3 (NaN below three folds with n > 3);
    ``pooled_r_<name>``: over all patients at once, biased downwards, for comparison only; for the model also
    ``pooled_spearman_model``, ``pooled_r2_model``, ``pooled_rmse_model`` and ``n``.
    """
    folds = np.unique(fold_of)
    sizes = np.array([(fold_of == fold).sum() for fold in folds])
    table = pd.DataFrame({"gene": list(genes)})
    complete = np.isfinite(truth).all(axis=0) & np.isfinite(predictions[MODEL]).all(axis=0)
    for name, predicted in predictions.items():
        by_fold = np.stack([_fold_r(truth[fold_of == fold], predicted[fold_of == fold]) for fold in folds])
        table[f"r_{name}"] = combine_folds(by_fold, sizes).r
        table[f"pooled_r_{name}"] = np.where(complete, pearson(np.nan_to_num(truth), np.nan_to_num(predicted)), np.nan)
    pooled = gene_metrics(np.nan_to_num(truth), np.nan_to_num(predictions[MODEL]))
    for name, values in (("spearman", pooled.spearman), ("r2", pooled.r2), ("rmse", pooled.rmse)):
        table[f"pooled_{name}_{MODEL}"] = np.where(complete, values, np.nan)
    table["n"] = np.isfinite(truth).sum(axis=0)
    return table


def _fold_r(truth: NDArray[np.floating], predicted: NDArray[np.floating]) -> NDArray[np.float64]:
    """(G,) r within one fold; NaN for genes that fold has no target for."""
    present = np.isfinite(truth).all(axis=0) & np.isfinite(predicted).all(axis=0)
    return np.where(present, pearson(np.nan_to_num(truth), np.nan_to_num(predicted)), np.nan)


def headline_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row a predictor: median over genes of the fold-combined r, of the pooled r, and the number of genes."""
    names = [column.removeprefix("r_") for column in table if column.startswith("r_")]
    return pd.DataFrame(
        {
            "predictor": names,
            "median_r": [median_over_genes(table[f"r_{name}"].to_numpy()) for name in names],
            "median_pooled_r_biased": [median_over_genes(table[f"pooled_r_{name}"].to_numpy()) for name in names],
            "genes": [int(table[f"r_{name}"].notna().sum()) for name in names],
        }
    )
