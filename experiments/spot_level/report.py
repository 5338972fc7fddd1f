"""Write the report's part on spots: tables and figures of a run of ``tcgn-mil spot-cv``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcgn_mil.experiments.runs.finished_run import (
    OTHER_ROWS,
    Run,
    pictures_of,
    table_of,
    warnings_of,
    where_figures_are,
)
from tcgn_mil.experiments.runs.page import Section, Table
from tcgn_mil.experiments.runs.report_part import ReportPart

# Columns of summary.csv and sections.csv under the names that the report gives them.
PREDICTOR_COLUMNS: Mapping[str, str | tuple[str, str, str]] = {
    "predictor": "predictor",
    "headline": ("headline", "headline_low", "headline_high"),
    "median r, not depth-adjusted": "median_r_seen",
    "genes": "genes_seen",
    "q < 0.05": "significant",
    "predictable": "predictable",
}
_GENE_COLUMNS: Mapping[str, str | tuple[str, str, str]] = {
    "gene": "gene",
    "seen in this share of spots": "detection",
    "depth-adjusted r": ("depth_adjusted_r_model", "low_model", "high_model"),
    "q": "q_model",
    "predictable": "predictable",
    "r, not depth-adjusted": "r_model",
    "depth-adjusted r, ridge on colour": "depth_adjusted_r_ridge_colour",
    "depth-adjusted r, small network": "depth_adjusted_r_small_network",
    "sections": "sections",
}
_CAPTIONS = {
    "headline.png": "Headline (median depth-adjusted r) of each predictor in each section, with"
    " its 95 % interval.",
    "genes.png": "Distribution of depth-adjusted r over genes, by predictor.",
    "detection.png": "Median r of genes that are seen in few spots and in many spots.",
    "curves.png": "Training loss and validation score of each network by epoch.",
}
NORMALISATIONS = {
    "library": "the total count of the spot over all measured genes",
    "published": "the total count of the spot over the predicted genes",
}


def spot_sections(run: Run, share: float) -> list[Section]:
    """Return the section of the report on one run of ``spot-cv``."""
    return [
        Section(
            run.title("Spots: the encoder"),
            [where_figures_are(run)],
            _tables(run),
            pictures_of(run, _CAPTIONS),
            warnings=warnings_of(run.summary["labels"]),
        )
    ]


def _tables(run: Run) -> list[Table]:
    return [
        *table_of(
            run,
            "summary.csv",
            "All sections together; the headline is the median depth-adjusted r",
            PREDICTOR_COLUMNS,
        ),
        *table_of(
            run,
            "sections.csv",
            "Each section",
            {"section": "section", "spots": "spots", **PREDICTOR_COLUMNS},
        ),
        *table_of(
            run,
            "genes.csv",
            "Every gene",
            _GENE_COLUMNS,
            sort="depth_adjusted_r_model",
            max_rows=OTHER_ROWS,
        ),
    ]


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the methods paragraph of a run of ``spot-cv``."""
    training = config["training"]
    divisor = NORMALISATIONS[config["normalisation"]]
    return (
        f"The network {config['model']} was trained to predict gene expression from the image patch"
        f" of each spot. Counts were divided by {divisor} and log-transformed. Training used the"
        f" loss '{training['loss']}', a peak learning rate of {training['lr']:g} and at most"
        f" {training['epochs']} epochs. Predictions were cross-validated by {config['group_by']}."
        " Pearson correlation (r) was computed within sections after a spline of sequencing depth"
        " had been regressed out of both measured and predicted values. p-values come from a"
        " modified t-test that allows for spatial autocorrelation."
    )


REPORT = ReportPart(
    kind="spot-cv",
    position=5,
    sections=spot_sections,
    methods=methods,
    terms=frozenset(
        {"r", "95 % interval", "p and q", "baseline", "predictable gene", "depth-adjusted r"}
    ),
    files=("summary.csv", "sections.csv", "genes.csv", "folds.csv"),
)
