"""The report's sections on what follows from expression: immune signatures and survival."""

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

_SIGNIFICANT = 0.05
_SPEARMAN = ("spearman_r", "spearman_low", "spearman_high")
_PARTIAL = ("partial_r", "partial_low", "partial_high")


def associate_point(run: Run) -> str | None:
    """What was found of immune signatures in a sentence."""
    rows = run.summary.get("signatures") or []
    said = []
    if rows:
        sure = sum((row.get("spearman_q") or 1) < _SIGNIFICANT for row in rows)
        said.append(
            f"{sure} of {len(rows)} signatures agree between prediction and measurement beyond chance (q < 0.05)"
        )
    table = run.frame("covariates.csv")
    if len(table):
        table = table[table["kind"] == "signature"]
        said += [
            f"{source} signatures follow a covariate in {int((part['q'] < _SIGNIFICANT).sum())} of {len(part)} pairs"
            for source, part in table.groupby("source", sort=False)
        ]
    return f"Immune genes and signatures: {'; '.join(said)}." if said else None


def associate_sections(run: Run, share: float) -> list[Section]:
    """Agreement of genes and signatures, covariates, enrichment."""
    refused: dict[str, list[str]] = {}
    for row in run.summary.get("refused", ()):
        refused.setdefault(f"{row['set']}: {row['refused']}", []).append(row["source"])
    lines = [
        *filter(None, [associate_point(run)]),
        *([f"Not scored: {'; '.join(refused)}."] if refused else []),
        where_figures_are(run),
    ]
    return [
        Section(
            run.title("Immune genes and signatures"),
            lines,
            [
                *table_of(
                    run,
                    "signatures.csv",
                    "Signatures, predicted against measured",
                    {
                        "signature": "signature",
                        "patients": "n",
                        "Spearman r (95 % interval)": _SPEARMAN,
                        "q": "spearman_q",
                        "partial r": _PARTIAL,
                        "partial q": "partial_q",
                    },
                    sort="spearman_r",
                ),
                *table_of(
                    run,
                    "genes.csv",
                    "Genes, predicted against measured",
                    {
                        "gene": "gene",
                        "patients": "n",
                        "Spearman r (95 % interval)": _SPEARMAN,
                        "q": "spearman_q",
                        "partial r": _PARTIAL,
                        "partial q": "partial_q",
                        "in the sets": "sets",
                    },
                    sort="spearman_r",
                    max_rows=OTHER_ROWS,
                ),
                *table_of(
                    run,
                    "covariates.csv",
                    "Scores and genes against covariates, surest first",
                    {
                        "source": "source",
                        "signature or gene": "name",
                        "covariate": "covariate",
                        "test": "test",
                        "patients": "n",
                        "effect": "effect",
                        "p": "p",
                        "q": "q",
                        "partial r": "partial_r",
                        "partial q": "partial_q",
                    },
                    sort="p",
                    down=False,
                    max_rows=OTHER_ROWS,
                ),
                *table_of(
                    run,
                    "enrichment.csv",
                    "Are the predictable genes enriched in a set",
                    {
                        "set": "set",
                        "genes of the set": "genes",
                        "in the panel": "in_panel",
                        "predictable": "chosen",
                        "expected": "expected",
                        "fold": "fold",
                        "p": "p",
                        "q": "q",
                        "which": "overlap",
                    },
                    sort="p",
                    down=False,
                ),
                *table_of(
                    run,
                    "gsea.csv",
                    "Do the genes of a set gather at high r (GSEA)",
                    {
                        "set": "set",
                        "in the panel": "in_panel",
                        "normalised score": "nes",
                        "p": "p",
                        "q": "q",
                        "leading genes": "leading",
                    },
                    sort="p",
                    down=False,
                ),
                *table_of(
                    run,
                    "follow.csv",
                    "Predicted genes that follow the chosen score",
                    {
                        "gene": "gene",
                        "patients": "n",
                        "r": "r",
                        "p": "p",
                        "q": "q",
                        "partial r": "partial_r",
                        "partial q": "partial_q",
                        "part of the score": "part_of_score",
                        "in the sets": "sets",
                    },
                    max_rows=OTHER_ROWS,
                ),
                *table_of(
                    run,
                    "coverage.csv",
                    "Genes that each signature has and lacks, and where it is from",
                    {
                        "source": "source",
                        "signature": "set",
                        "genes": "genes",
                        "present": "present",
                        "missing genes": "missing_genes",
                        "not scored, since": "refused",
                        "citation": "description",
                    },
                ),
                *table_of(
                    run,
                    "cell_type_summary.csv",
                    "Spots: genes that follow each cell type",
                    {
                        "section": "section",
                        "cell type": "cell_type",
                        "genes": "genes",
                        "predicted": "predicted",
                        "measured": "measured",
                        "both": "both",
                        "agreement": "agreement",
                        "top genes": "top",
                    },
                ),
            ],
            pictures_of(
                run,
                {
                    "signatures.png": "How well each signature is predicted: r of predicted and measured score, with its 95 %"
                    " interval. An interval that crosses 0 is compatible with no agreement.",
                    "scatter.png": "The best predicted signatures, a dot a patient.",
                    "covariates.png": "Signatures against covariates: red rises with it, blue falls; a number where q < 0.05.",
                    "enrichment.png": "Which sets hold more of the predictable genes than chance would give.",
                    "follow.png": "Genes that follow the chosen score: the further from the middle the closer, the higher the"
                    " surer; dark ones have q < 0.05.",
                    "cell_types.png": "Genes that follow each cell type over the spots, predicted beside measured.",
                },
            ),
            warnings=warnings_of(run.summary.get("notes")),
        )
    ]


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    adjusted = ", ".join(config.get("adjust_for") or ()) or "nothing"
    return (
        "Signature scores were means over their genes of the gene's rank among patients and were refused where fewer"
        f" than half of the genes were there; {config['replicates']} resamplings of patients gave intervals; partial"
        f" correlations were adjusted for {adjusted}; Benjamini-Hochberg within each table; enrichment was judged by"
        " the hypergeometric distribution against the panel and by preranked GSEA."
    )


REPORT = ReportPart(
    kind="associate",
    position=3,
    sections=associate_sections,
    methods=methods,
    terms=frozenset({"r", "95 % interval", "p and q", "signature", "Spearman r"}),
    sentence=associate_point,
)
