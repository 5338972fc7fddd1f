"""Show for which genes, sites and patients the uncertainty of a slide-level run holds.

Coverage is the share of measured values inside the prediction intervals, which each fold gets from
the others. The out-of-distribution score of a training patient was computed with this patient left
out; it is compared with the squared error of the patient's out-of-fold prediction, both of which a
new patient would have had.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tcgn_mil import plotting
from tcgn_mil.experiments.slide_level.evaluate import MODEL
from tcgn_mil.experiments.slide_level.fold_results import OutOfFold
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.inference.out_of_distribution import OUT, Reference, verdict_table
from tcgn_mil.statistics.conformal import ConformalBounds
from tcgn_mil.statistics.out_of_fold import patient_agreement

GENE_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_FEWEST_IN_GROUP = 5  # patients; the coverage of a smaller site is not shown by itself
_FEWEST_PATIENTS = 10  # for a correlation of score and error
_DRAWN_SITES = 24
_WIDE_RANGE = 20  # times the median; errors beyond it are drawn on a logarithmic axis


def patient_uncertainty(
    joined: OutOfFold, bounds: ConformalBounds, reference: Reference
) -> pd.DataFrame:
    """Return the uncertainty of each patient and what came of it.

    Parameters
    ----------
    joined
        Out-of-fold predictions.
    bounds
        Prediction intervals of the run.
    reference
        Training patients, each compared with the others.

    Returns
    -------
    DataFrame
        By patient: ``ood_score``, ``ood_p``, ``ood_state``, ``ood_level``; ``interval_coverage``
        (share of the genes whose value lies in the interval), ``squared_error`` (mean over genes,
        in units of the variance of the gene) and ``r_over_genes``.
    """
    agreement = patient_agreement(joined.truth, joined.predictions[MODEL])
    table = verdict_table({name: reference.training.get(name) for name in joined.patients})
    table = table.reindex(list(joined.patients))
    with warnings.catch_warnings():
        # A patient without any interval has no coverage, which is NaN on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        table["interval_coverage"] = np.nanmean(bounds.covered, axis=1)
    table["squared_error"] = agreement.squared_error
    table["r_over_genes"] = agreement.r
    return table.rename_axis("patient_id")


def uncertainty_table(
    data: CohortData, joined: OutOfFold, bounds: ConformalBounds, patients: pd.DataFrame
) -> pd.DataFrame:
    """Return coverage and error by gene, site, cohort and out-of-distribution score.

    Returns
    -------
    DataFrame
        One row for each group of patients (`kind` is ``all``, ``site``, ``cohort`` or
        ``ood_state``) with its number of patients, coverage with a 95 % interval over patients,
        squared error and r over genes (medians of the patients); one for each of some quantiles of
        the coverage over genes (``gene quantile``); and one for Spearman's correlation of the score
        with each measure of error (``spearman r with ood_score``, with its p).
    """
    rows = [
        {"kind": kind, "name": name, **_group(patients[inside])}
        for kind, name, inside in _groups(data, joined, patients)
    ]
    by_gene = bounds.coverage_by_gene[np.isfinite(bounds.coverage_by_gene)]
    if len(by_gene):
        rows += [
            {
                "kind": "gene quantile",
                "name": f"{share:g}",
                "coverage": float(np.quantile(by_gene, share)),
            }
            for share in GENE_QUANTILES
        ]
    for measure in ("squared_error", "r_over_genes", "interval_coverage"):
        r, p, n = _rank_correlation(patients["ood_score"], patients[measure])
        rows.append(
            {"kind": "spearman r with ood_score", "name": measure, "patients": n, "r": r, "p": p}
        )
    return pd.DataFrame(rows)


def _groups(
    data: CohortData, joined: OutOfFold, patients: pd.DataFrame
) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    """Yield kind, name and members of each group of patients."""
    yield "all", "all", np.ones(len(patients), dtype=bool)
    for kind, of_patient in (("site", data.sites), ("cohort", data.sources)):
        names = np.array([of_patient.get(name, "") for name in joined.patients])
        for group in sorted(set(names.tolist()) - {""}):
            inside = names == group
            if inside.sum() >= _FEWEST_IN_GROUP and not inside.all():
                yield kind, group, inside
    states = patients["ood_state"].astype(str).to_numpy()
    for state in sorted(set(states.tolist())):
        yield "ood_state", state, states == state


def _group(patients: pd.DataFrame) -> dict[str, float]:
    """Return coverage with its interval over patients, and the median errors."""
    coverage = patients["interval_coverage"].dropna()
    mean = float(coverage.mean()) if len(coverage) else float("nan")
    # Genes of a patient are covered or missed together, so that the patients are what varies.
    half = 1.96 * float(coverage.std(ddof=1)) / np.sqrt(len(coverage)) if len(coverage) > 1 else 0
    return {
        "patients": len(patients),
        "coverage": mean,
        "low": mean - half if half else float("nan"),
        "high": min(1.0, mean + half) if half else float("nan"),
        "median_squared_error": _median(patients["squared_error"]),
        "median_r_over_genes": _median(patients["r_over_genes"]),
    }


def _median(values: pd.Series) -> float:
    known = values.dropna()
    return float(known.median()) if len(known) else float("nan")


def _rank_correlation(score: pd.Series, measure: pd.Series) -> tuple[float, float, int]:
    known = score.notna() & measure.notna()
    n = int(known.sum())
    if n < _FEWEST_PATIENTS or score[known].nunique() < 2 or measure[known].nunique() < 2:
        return float("nan"), float("nan"), n
    result = spearmanr(score[known], measure[known])
    return float(result.statistic), float(result.pvalue), n


@plotting.styled
def draw_uncertainty(
    table: pd.DataFrame,
    patients: pd.DataFrame,
    gene_coverage: NDArray[np.floating],
    path: Path,
    *,
    stated_coverage: float,
) -> None:
    """Draw coverage by gene, coverage by site and cohort, and error against score.

    Parameters
    ----------
    table, patients
        Results of :func:`uncertainty_table` and :func:`patient_uncertainty`.
    gene_coverage
        (G,) coverage of each gene, NaN where it is unknown.
    path
        Figure to write.
    stated_coverage
        Share that the intervals should hold.
    """
    groups = table[table["kind"].isin(["all", "site", "cohort"]) & table["coverage"].notna()]
    cohorts, sites = groups[groups["kind"] != "site"], groups[groups["kind"] == "site"]
    groups = pd.concat([cohorts, sites.nlargest(_DRAWN_SITES, "patients")])
    height = max(2.4, 1.0 + 0.16 * len(groups))
    figure, axes = plotting.subplots(1, 3, width=plotting.TWO_COLUMNS, height=height)
    known = gene_coverage[np.isfinite(gene_coverage)]
    axes[0].hist(known, bins=12, color=plotting.COLOURS[0], alpha=0.7)
    axes[0].axvline(stated_coverage, color="black", linestyle="--", linewidth=1)
    axes[0].set(
        title="by gene",
        xlabel="share of patients\ninside the interval",
        ylabel=f"number of genes (of {len(known):,})",
    )
    _draw_groups(axes[1], groups, stated_coverage)
    _draw_scores(axes[2], table, patients)
    source = patients.reset_index()[["patient_id", "ood_score", "ood_state", "squared_error"]]
    parts = [groups.assign(panel="coverage"), source.assign(panel="error")]
    plotting.save_figure(figure, path, pd.concat(parts))


def _draw_groups(axis: Axes, groups: pd.DataFrame, stated_coverage: float) -> None:
    places = np.arange(len(groups))
    colours = [plotting.COLOURS[0] if kind == "all" else "0.35" for kind in groups["kind"]]
    axis.hlines(places, groups["low"], groups["high"], color=colours, linewidth=1.5)
    axis.scatter(groups["coverage"], places, color=colours, s=10)
    axis.axvline(stated_coverage, color="black", linestyle="--", linewidth=1)
    labels = [
        f"{plotting.figure_label(row.name_, 18)} (n = {row.patients:,.0f})"
        for row in groups.rename(columns={"name": "name_"}).itertuples()
    ]
    axis.set(
        title="by site and cohort, 95 % interval",
        xlabel="share of genes\ninside the interval",
        yticks=places,
        yticklabels=labels,
    )
    axis.invert_yaxis()


def _draw_scores(axis: Axes, table: pd.DataFrame, patients: pd.DataFrame) -> None:
    outside = patients["ood_state"] == OUT
    for rows, colour, label in (
        (patients[~outside], plotting.COLOURS[0], f"like the others (n = {(~outside).sum():,})"),
        (patients[outside], plotting.COLOURS[1], f"out of distribution (n = {outside.sum():,})"),
    ):
        if len(rows):
            axis.scatter(
                rows["ood_score"], rows["squared_error"], s=8, color=colour, alpha=0.6, label=label
            )
    row = table[table["name"] == "squared_error"].iloc[0]
    known = np.isfinite(row["r"])
    axis.set(
        title=f"Spearman r {plotting.r_text(row['r'])}, p {row['p']:.1g}"
        if known
        else "too few to correlate",
        xlabel="out-of-distribution score\nof the patient",
        ylabel="squared error / variance of the gene",
    )
    positive = patients["squared_error"][patients["squared_error"] > 0]
    if len(positive) and positive.max() > _WIDE_RANGE * positive.median():
        axis.set_yscale("log")
    low, high = axis.get_ylim()
    stretched = (high / low) ** 0.2 if axis.get_yscale() == "log" else 1 + 0.2 * (1 - low / high)
    axis.set_ylim(low, high * stretched)  # room for the legend above the points
    axis.legend(loc="upper right")
