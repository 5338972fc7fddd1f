"""Spot-level results of one held-out section: the model beside its baselines (PROTOCOL, Metrics and Baselines)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.baselines import depth_predictions, ridge_predictions
from tcgn_mil.contracts import GenePanel
from tcgn_mil.metrics import DETECTION_FLOOR, depth_adjusted_pearson, headline, median_over_genes, pearson


@dataclass(frozen=True)
class SpotTargets:
    """Targets of the spots of one or more sections.

    Attributes
    ----------
    expression
        (S, G) float32 normalised expression.
    log_depth
        (S,) log of the total count over all measured genes.
    detection
        (G,) share of spots with a count.
    """

    expression: NDArray[np.float32]
    log_depth: NDArray[np.float64]
    detection: NDArray[np.float64]


def baseline_predictions(
    train: SpotTargets, train_colour: NDArray[np.float32], test: SpotTargets, test_colour: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Baseline name -> (S, G) predictions for the test spots, from colour statistics (S, 30) and depth."""
    ridge = ridge_predictions(train_colour, train.expression, test_colour)
    mean = np.broadcast_to(train.expression.mean(axis=0, dtype=np.float64), test.expression.shape)
    return {
        "ridge_colour": ridge,
        "depth_control": depth_predictions(train.log_depth, train.expression, test.log_depth),
        "training_mean": mean.astype(np.float32),
    }


def gene_table(panel: GenePanel, test: SpotTargets, predictions: dict[str, NDArray[np.float32]]) -> pd.DataFrame:
    """One row a gene: detection, then ``r_<name>`` and ``depth_adjusted_r_<name>`` for each predictor."""
    table = pd.DataFrame({"gene": panel.genes, "detection": test.detection})
    for name, predicted in predictions.items():
        table[f"r_{name}"] = pearson(test.expression, predicted)
        table[f"depth_adjusted_r_{name}"] = depth_adjusted_pearson(test.expression, predicted, test.log_depth)
    return table


def summary_table(table: pd.DataFrame, *, section: str, normalisation: str) -> pd.DataFrame:
    """One row a predictor: the headline (median depth-adjusted r of genes in >= 20 % of spots) and plain medians."""
    names = [column.removeprefix("depth_adjusted_r_") for column in table if column.startswith("depth_adjusted_r_")]
    seen = table["detection"] >= DETECTION_FLOOR
    rows = []
    for name in names:
        rows.append(
            {
                "section": section,
                "normalisation": normalisation,
                "predictor": name,
                "headline": headline(table[f"depth_adjusted_r_{name}"].to_numpy(), table["detection"].to_numpy()),
                "median_r_seen": median_over_genes(table.loc[seen, f"r_{name}"].to_numpy()),
                "median_r_all": median_over_genes(table[f"r_{name}"].to_numpy()),
                "genes_seen": int(seen.sum()),
                "genes_na": int(table[f"r_{name}"].isna().sum()),
            }
        )
    return pd.DataFrame(rows)
