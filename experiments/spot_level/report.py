"""The report's sections on expression: from slides and from spots, and the maps of predictions."""

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
from tcgn_mil.experiments.runs.page import Section
from tcgn_mil.experiments.runs.report_part import ReportPart


def spot_sections(run: Run, share: float) -> list[Section]:
    """Each section and gene of a run of spot-cv."""
    r = ("depth_adjusted_r_model", "low_model", "high_model")
    row = {
        "predictor": "predictor",
        "headline": ("headline", "headline_low", "headline_high"),
        "median r, not depth-adjusted": "median_r_seen",
        "genes": "genes_seen",
        "q < 0.05": "significant",
        "predictable": "predictable",
    }
    return [
        Section(
            run.title("Spots: the encoder"),
            [str(run.summary["sentence"]), where_figures_are(run)],
            [
                *table_of(run, "summary.csv", "Over sections: median depth-adjusted r", row),
                *table_of(
                    run,
                    "sections.csv",
                    "Each section",
                    {"section": "section", "spots": "spots", **row},
                ),
                *table_of(
                    run,
                    "genes.csv",
                    "Every gene",
                    {
                        "gene": "gene",
                        "seen in this share of spots": "detection",
                        "depth-adjusted r": r,
                        "q": "q_model",
                        "predictable": "predictable",
                        "r, not depth-adjusted": "r_model",
                        "depth-adjusted r, ridge on colour": "depth_adjusted_r_ridge_colour",
                        "depth-adjusted r, small network": "depth_adjusted_r_small_network",
                        "sections": "sections",
                    },
                    sort="depth_adjusted_r_model",
                    max_rows=OTHER_ROWS,
                ),
            ],
            pictures_of(
                run,
                {
                    "headline.png": "Median depth-adjusted r of each section and predictor, with 95 % intervals.",
                    "genes.png": "How depth-adjusted r is distributed over genes.",
                    "detection.png": "Median r by the share of spots in which a gene is seen.",
                    "curves.png": "Training curves.",
                },
            ),
            warnings=warnings_of(run.summary["labels"]),
        )
    ]


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    training = config["training"]
    return (
        f"{config['model']} was trained on spots ({config['normalisation']} normalisation, loss {training['loss']}, at"
        f" most {training['epochs']} epochs, peak rate {training['lr']:g}) and cross-validated by {config['group_by']};"
        " r was computed within sections after taking sequencing depth out of truth and prediction, p-values allow for"
        " spatial autocorrelation."
    )


REPORT = ReportPart(
    kind="spot-cv",
    position=5,
    sections=spot_sections,
    methods=methods,
    terms=frozenset(
        {"r", "95 % interval", "p and q", "baseline", "predictable gene", "depth-adjusted r"}
    ),
)
