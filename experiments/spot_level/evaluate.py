"""Spot-level results of one held-out section: the model beside its baselines (PROTOCOL, Metrics and Baselines).

Intervals are of a bootstrap over blocks of 5 x 5 spots, p-values of a t-test whose sample size allows for spatial
autocorrelation (:mod:`tcgn_mil.statistics.spatial`); both are of r once depth is out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.baselines import depth_predictions, ridge_predictions
from tcgn_mil.experiments.spot_level.inputs.targets import SpotTargets
from tcgn_mil.statistics.bootstrap import block_bootstrap, percentile_interval
from tcgn_mil.statistics.gene_metrics import gene_metrics, median_over_genes, pearson
from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.statistics.sequencing_depth import DETECTION_FLOOR, depth_adjusted_pearson, headline
from tcgn_mil.statistics.spatial import MAX_SPOTS, MIN_SPOTS, SpatialTest, spatial_blocks
from tcgn_mil.types.genes import GenePanel

MODEL = "model"
PREDICTOR_NAMES = {
    MODEL: "model",
    "small_network": "small network",
    "untrained": "untrained network + ridge",
    "ridge_colour": "ridge on colour",
    "depth_control": "depth (spline)",
    "log_total": "log total",
    "training_mean": "training mean",
}
GATES = ("ridge_colour", "small_network")  # what a predictable gene is predicted better than
MAX_Q = 0.05
REPLICATES = 1000
DETECTION_BINS = (0.05, 0.2, 0.5)
DETECTION_LABELS = ("< 5 %", "5-20 %", "20-50 %", "> 50 %")


def baseline_predictions(
    train: SpotTargets,
    train_colour: NDArray[np.float32],
    test: SpotTargets,
    test_colour: NDArray[np.float32],
) -> dict[str, NDArray[np.float32]]:
    """Baseline name -> (S, G) predictions for the test spots, from colour statistics (S, 30) and depth.

    Training spots without a value are left out.
    """
    known = np.isfinite(train.expression).all(axis=1)
    expression, depth = train.expression[known], train.log_depth[known]
    shape = test.expression.shape
    mean = np.broadcast_to(expression.mean(axis=0, dtype=np.float64), shape)
    return {
        "ridge_colour": ridge_predictions(train_colour[known], expression, test_colour),
        "depth_control": depth_predictions(depth, expression, test.log_depth),
        "log_total": np.broadcast_to(test.log_depth[:, None], shape).astype(np.float32),
        "training_mean": mean.astype(np.float32),
    }


class SectionResults(NamedTuple):
    """Results of one section.

    ``genes``: a row a gene; ``summary``: a row a predictor; ``detection``: a row a predictor and bin of detection;
    ``replicates``: predictor -> (R, G) resampled depth-adjusted r, empty where the section has too few spots.
    """

    genes: pd.DataFrame
    summary: pd.DataFrame
    detection: pd.DataFrame
    replicates: Mapping[str, NDArray[np.float32]]


def section_results(
    panel: GenePanel,
    test: SpotTargets,
    predictions: Mapping[str, NDArray[np.float32]],
    *,
    section: str,
    normalisation: str,
    replicates: int = REPLICATES,
) -> SectionResults:
    """Results of one section.

    Returns
    -------
    For each predictor, ``genes`` has ``r_`` (plain), ``depth_adjusted_r_``, its 95 % interval ``low_`` and ``high_``,
    ``effective_n_``, the one-sided ``p_`` and ``q_`` (Benjamini-Hochberg over genes seen in at least 20 % of the spots;
    NaN for others), and for the model ``predictable``: q below 0.05 and r above that of ridge and, where there is one,
    of the small network. ``summary`` has the headline (median depth-adjusted r of the genes seen) with its interval,
    plain medians, and the number of genes at q below 0.05 and of predictable ones.

    Raises
    ------
    ValueError
        If the section has no positions.
    """
    if test.positions is None:
        raise ValueError(f"section {section} has no positions")
    spots = len(test.positions)
    tested = (
        SpatialTest(test.positions, test.log_depth) if MIN_SPOTS <= spots <= MAX_SPOTS else None
    )
    genes = pd.DataFrame({"gene": panel.genes, "detection": test.detection})
    rows, drawn = [], {}
    for name, predicted in predictions.items():
        columns = {f"r_{name}": pearson(test.expression, predicted)}
        bounds = (float("nan"), float("nan"))
        if name == MODEL:
            more = gene_metrics(test.expression, predicted)
            columns |= {
                "spearman_model": more.spearman,
                "r2_model": more.r2,
                "rmse_model": more.rmse,
                "n": more.n,
            }
        if tested is None:
            columns |= {
                f"depth_adjusted_r_{name}": depth_adjusted_pearson(
                    test.expression, predicted, test.log_depth
                )
            }
        else:
            found, drawn[name] = _in_space(
                test, predicted, tested, name, replicates, seed=zlib.crc32(section.encode())
            )
            columns |= found
            bounds = headline_interval(drawn[name], test.detection)
        genes = genes.assign(**columns)
        rows.append(
            _summary(genes, name, bounds, section=section, normalisation=normalisation, spots=spots)
        )
    if f"q_{MODEL}" in genes:
        genes["predictable"] = predictable(genes)
        for row in rows:
            row["predictable"] = (
                int(genes["predictable"].sum()) if row["predictor"] == MODEL else None
            )
    return SectionResults(
        genes, pd.DataFrame(rows), detection_breakdown(genes, predictions, section=section), drawn
    )


def detection_breakdown(
    genes: pd.DataFrame, predictors: Iterable[str], *, section: str
) -> pd.DataFrame:
    """Median r of each predictor by how many spots a gene is seen in (PROTOCOL, Baselines)."""
    bins = pd.cut(
        genes["detection"], [-np.inf, *DETECTION_BINS, np.inf], right=False, labels=DETECTION_LABELS
    )
    rows = []
    for label in DETECTION_LABELS:
        inside = genes[bins == label]
        for name in predictors:
            rows.append(
                {
                    "section": section,
                    "seen_in": label,
                    "predictor": name,
                    "genes": len(inside),
                    "median_r": median_over_genes(inside[f"r_{name}"].to_numpy()),
                    "median_depth_adjusted_r": median_over_genes(
                        inside[f"depth_adjusted_r_{name}"].to_numpy()
                    ),
                }
            )
    return pd.DataFrame(rows)


def headline_interval(
    replicates: NDArray[np.float32], detection: NDArray[np.float64]
) -> tuple[float, float]:
    """95 % interval of the median over genes seen in at least 20 % of the spots, from (R, G) resampled r."""
    seen = replicates[:, (detection >= DETECTION_FLOOR) & np.isfinite(replicates).any(axis=0)]
    if not seen.shape[1]:
        return float("nan"), float("nan")
    low, high = percentile_interval(np.nanmedian(seen, axis=1)[:, None])
    return float(low[0]), float(high[0])


def _in_space(
    test: SpotTargets,
    predicted: NDArray[np.float32],
    tested: SpatialTest,
    name: str,
    replicates: int,
    *,
    seed: int,
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float32]]:
    """Columns of one predictor, and its resampled r (R, G)."""
    found = tested(test.expression, predicted)
    assert test.positions is not None
    drawn = block_bootstrap(
        tested.residuals(test.expression),
        tested.residuals(predicted),
        spatial_blocks(test.positions),
        replicates=replicates,
        seed=seed,
    )
    drawn[:, ~np.isfinite(found.r)] = np.nan
    low, high = percentile_interval(drawn)
    columns = {
        f"depth_adjusted_r_{name}": found.r,
        f"low_{name}": low,
        f"high_{name}": high,
        f"effective_n_{name}": found.effective_n,
        f"p_{name}": found.p,
        f"q_{name}": benjamini_hochberg(found.p, test.detection >= DETECTION_FLOOR),
    }
    return columns, drawn


def predictable(genes: pd.DataFrame) -> pd.Series:
    """Genes that the model predicts by the protocol's rule; a baseline without a value does not gate."""
    r = genes[f"depth_adjusted_r_{MODEL}"]
    found = genes[f"q_{MODEL}"] < MAX_Q
    for gate in GATES:
        if (column := f"depth_adjusted_r_{gate}") in genes:
            found &= (r > genes[column]) | genes[column].isna()
    return found


def _summary(
    genes: pd.DataFrame,
    name: str,
    bounds: tuple[float, float],
    *,
    section: str,
    normalisation: str,
    spots: int,
) -> dict[str, Any]:
    seen = genes["detection"] >= DETECTION_FLOOR
    return {
        "section": section,
        "spots": spots,
        "normalisation": normalisation,
        "predictor": name,
        "headline": headline(
            genes[f"depth_adjusted_r_{name}"].to_numpy(), genes["detection"].to_numpy()
        ),
        "headline_low": bounds[0],
        "headline_high": bounds[1],
        "median_r_seen": median_over_genes(genes.loc[seen, f"r_{name}"].to_numpy()),
        "median_r_all": median_over_genes(genes[f"r_{name}"].to_numpy()),
        "genes_seen": int(seen.sum()),
        "genes_na": int(genes[f"r_{name}"].isna().sum()),
        "significant": int((genes[f"q_{name}"] < MAX_Q).sum()) if f"q_{name}" in genes else None,
    }
