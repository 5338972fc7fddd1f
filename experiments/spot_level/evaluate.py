"""Evaluate predictions of one held-out section beside the baselines.

Metrics and baselines follow docs/protocol.md, sections Metrics per gene and Baselines. Intervals
come from a bootstrap over blocks of 5 x 5 spots. p-values come from a t-test whose sample size
allows for spatial autocorrelation (:mod:`tcgn_mil.statistics.spatial`). Both concern the
depth-adjusted r.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.baselines import depth_predictions, ridge_predictions
from tcgn_mil.experiments.runs.glossary import PREDICTORS
from tcgn_mil.experiments.spot_level.inputs.targets import SpotTargets
from tcgn_mil.statistics.bootstrap import block_bootstrap, percentile_interval
from tcgn_mil.statistics.gene_metrics import gene_metrics, median_over_genes, pearson
from tcgn_mil.statistics.p_values import MAX_Q, benjamini_hochberg
from tcgn_mil.statistics.sequencing_depth import DETECTION_FLOOR, depth_adjusted_pearson, headline
from tcgn_mil.statistics.spatial import MAX_SPOTS, MIN_SPOTS, SpatialTest, spatial_blocks
from tcgn_mil.types.genes import GenePanel

MODEL = "model"
# Plain names of the predictors, in the order in which figures and sentences list them.
_ORDER = (
    MODEL,
    "small_network",
    "untrained",
    "ridge_colour",
    "depth_control",
    "log_total",
    "training_mean",
)
PREDICTOR_NAMES = {name: PREDICTORS[name] for name in _ORDER} | {
    # The last layer of the untrained network is a ridge regression on its features.
    "untrained": "untrained network + ridge"
}
# A predictable gene is predicted better than by each of these baselines.
GATES = ("ridge_colour", "small_network")
REPLICATES = 1000
# Bins of the share of spots in which a gene is seen (docs/protocol.md, section Baselines).
DETECTION_BINS = (0.05, 0.2, 0.5)
DETECTION_LABELS = ("< 5 %", "5-20 %", "20-50 %", "> 50 %")


def baseline_predictions(
    train: SpotTargets,
    train_colour: NDArray[np.float32],
    test: SpotTargets,
    test_colour: NDArray[np.float32],
) -> dict[str, NDArray[np.float32]]:
    """Predict test spots by the baselines that need no network.

    Parameters
    ----------
    train, test
        Targets of the training and test spots. Training spots without a value are left out.
    train_colour, test_colour
        Colour statistics of their patches (S, 30).

    Returns
    -------
    dict
        Predictions (S, G) float32 for the test spots by name of the baseline: ridge regression on
        colour, a spline of depth, the log total count, and the training mean.
    """
    # A spot can have no value in one of the two normalisations: if its total over the panel is 0.
    finite = np.isfinite(train.expression).all(axis=1)
    expression, depth = train.expression[finite], train.log_depth[finite]
    shape = test.expression.shape
    # Summed in float64, because a float32 sum over many spots loses digits.
    mean = np.broadcast_to(expression.mean(axis=0, dtype=np.float64), shape)
    return {
        "ridge_colour": ridge_predictions(train_colour[finite], expression, test_colour),
        "depth_control": depth_predictions(depth, expression, test.log_depth),
        "log_total": np.broadcast_to(test.log_depth[:, None], shape).astype(np.float32),
        "training_mean": mean.astype(np.float32),
    }


class SectionResults(NamedTuple):
    """Results of one section.

    Attributes
    ----------
    genes
        One row for each gene.
    summary
        One row for each predictor.
    detection
        One row for each predictor and bin of detection.
    replicates
        Resampled depth-adjusted r (R, G) by predictor; empty where the section has too few spots.
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
    """Compute the results of one section.

    Parameters
    ----------
    panel
        Genes of the predictions.
    test
        Targets of the section, with positions.
    predictions
        Predictions (S, G) by predictor.
    section
        Name of the section. It also seeds the bootstrap, so that two runs draw the same blocks.
    normalisation
        Normalisation of the targets, which is written beside the results.
    replicates
        Number of bootstrap resamples.

    Returns
    -------
    SectionResults
        For each predictor, ``genes`` has the columns ``r_`` (plain), ``depth_adjusted_r_`` with its
        95 % interval ``low_`` and ``high_``, ``effective_n_``, the one-sided ``p_`` and ``q_``. q
        is Benjamini-Hochberg over the genes seen in at least 20 % of the spots, and NaN for other
        genes. ``predictable`` marks the genes whose q is below 0.05 and whose r is above that of
        ridge regression and, where there is one, of the small network. ``summary`` has the headline
        (median depth-adjusted r of the genes seen) with its interval, medians of the plain r, and
        the numbers of genes with q below 0.05 and of predictable genes.

    Raises
    ------
    ValueError
        If the targets have no positions.
    """
    if test.positions is None:
        raise ValueError(f"section {section} has no positions")
    spots = len(test.positions)
    # The spatial test estimates a covariance from pairs of spots. Few spots give no estimate, and
    # the pairs of very many spots do not fit into memory; such sections have r without p.
    tested = (
        SpatialTest(test.positions, test.log_depth) if MIN_SPOTS <= spots <= MAX_SPOTS else None
    )
    genes = pd.DataFrame({"gene": panel.genes, "detection": test.detection})
    rows, drawn = [], {}
    for name, predicted in predictions.items():
        columns: dict[str, NDArray[np.generic]] = {f"r_{name}": pearson(test.expression, predicted)}
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
            spatial, drawn[name] = _in_space(
                test, predicted, tested, name, replicates, seed=zlib.crc32(section.encode())
            )
            columns |= spatial
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
    """Return the median r of each predictor by the share of spots in which a gene is seen.

    See docs/protocol.md, section Baselines.
    """
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
    """Return the 95 % interval of the headline.

    Parameters
    ----------
    replicates
        Resampled depth-adjusted r (R, G).
    detection
        Share of spots in which each gene is seen (G,). The headline is the median over the genes
        seen in at least 20 % of the spots.
    """
    # A column of NaN only would make nanmedian warn, and says nothing.
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
    """Return the columns of one predictor that heed space, and its resampled r (R, G)."""
    result = tested(test.expression, predicted)
    assert test.positions is not None
    # Depth is regressed out once, on all spots, and not again in each resample, to save time.
    drawn = block_bootstrap(
        tested.residuals(test.expression),
        tested.residuals(predicted),
        spatial_blocks(test.positions),
        replicates=replicates,
        seed=seed,
    )
    # A gene without an r must not get an interval either.
    drawn[:, ~np.isfinite(result.r)] = np.nan
    low, high = percentile_interval(drawn)
    columns = {
        f"depth_adjusted_r_{name}": result.r,
        f"low_{name}": low,
        f"high_{name}": high,
        f"effective_n_{name}": result.effective_n,
        f"p_{name}": result.p,
        f"q_{name}": benjamini_hochberg(result.p, test.detection >= DETECTION_FLOOR),
    }
    return columns, drawn


def predictable(genes: pd.DataFrame) -> pd.Series:
    """Return which genes the model predicts (docs/protocol.md, section Predictable genes).

    A baseline that has no value for a gene does not count against it.
    """
    r = genes[f"depth_adjusted_r_{MODEL}"]
    passed = genes[f"q_{MODEL}"] < MAX_Q
    for gate in GATES:
        if (column := f"depth_adjusted_r_{gate}") in genes:
            passed &= (r > genes[column]) | genes[column].isna()
    return passed


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
