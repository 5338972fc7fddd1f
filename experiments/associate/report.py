"""Write the report's part on immune signatures: tables and figures of ``tcgn-mil associate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcgn_mil.experiments.associate.figures import SIGNIFICANT
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

_SPEARMAN = ("spearman_r", "spearman_low", "spearman_high")
_PARTIAL = ("partial_r", "partial_low", "partial_high")
_AGREEMENT: Mapping[str, str | tuple[str, str, str]] = {
    "patients": "n",
    "Spearman r (95 % interval)": _SPEARMAN,
    "q": "spearman_q",
    "partial r": _PARTIAL,
    "partial q": "partial_q",
}
_TESTED = {"p": "p", "q": "q", "partial r": "partial_r", "partial q": "partial_q"}
_CAPTIONS = {
    "signatures.png": "Agreement of the predicted with the measured score of each signature: r with"
    " its 95 % interval. An interval that crosses 0 is compatible with no agreement.",
    "scatter.png": "The best predicted signatures; each dot is a patient.",
    "covariates.png": "Signatures against covariates. Red: the signature rises with the covariate."
    " Blue: it falls. A number is written where q < 0.05.",
    "enrichment.png": "Gene sets that hold more of the predictable genes than chance would give.",
    "follow.png": "Genes that follow the chosen score. Genes far from the middle follow it closely,"
    " genes high up follow it with certainty; dark dots have q < 0.05.",
    "cell_types.png": "Genes that follow each cell type over the spots, in predicted and in"
    " measured values.",
}


def associate_point(run: Run) -> str | None:
    """Return the sentence on immune signatures for the box at the top of the page, if any."""
    statements = []
    if rows := run.summary.get("signatures"):
        agreeing = sum((row.get("spearman_q") or 1) < SIGNIFICANT for row in rows)
        statements.append(
            f"{agreeing} of {len(rows)} signatures agree between prediction and measurement beyond"
            " chance (q < 0.05)"
        )
    table = run.frame("covariates.csv")
    if len(table):
        # Genes are left out: with hundreds of them, their number of pairs says little.
        table = table[table["kind"] == "signature"]
        statements += [
            f"{source} signatures are associated with a covariate in"
            f" {int((part['q'] < SIGNIFICANT).sum())} of {len(part)} pairs"
            for source, part in table.groupby("source", sort=False)
        ]
    return f"Immune genes and signatures: {'; '.join(statements)}." if statements else None


def associate_sections(run: Run, share: float) -> list[Section]:
    """Return the section of the report on one run of ``associate``."""
    paragraphs = [_refused(run), where_figures_are(run)]
    return [
        Section(
            run.title("Immune genes and signatures"),
            [text for text in paragraphs if text],
            [
                *_agreement_tables(run),
                *_covariate_tables(run),
                *_enrichment_tables(run),
                *_other_tables(run),
            ],
            pictures_of(run, _CAPTIONS),
            warnings=warnings_of(run.summary.get("notes")),
        )
    ]


def _refused(run: Run) -> str:
    """Return the sentence that names signatures without a score, each once, or an empty text."""
    reasons = [f"{row['set']}: {row['refused']}" for row in run.summary.get("refused", ())]
    return f"Signatures without a score: {'; '.join(dict.fromkeys(reasons))}." if reasons else ""


def _agreement_tables(run: Run) -> list[Table]:
    return [
        *table_of(
            run,
            "signatures.csv",
            "Signatures, predicted against measured",
            {"signature": "signature", **_AGREEMENT},
            sort="spearman_r",
        ),
        *table_of(
            run,
            "genes.csv",
            "Genes, predicted against measured",
            {"gene": "gene", **_AGREEMENT, "in the sets": "sets"},
            sort="spearman_r",
            max_rows=OTHER_ROWS,
        ),
    ]


def _covariate_tables(run: Run) -> list[Table]:
    return table_of(
        run,
        "covariates.csv",
        "Signatures and genes against covariates, smallest p first",
        {
            "source": "source",
            "signature or gene": "name",
            "covariate": "covariate",
            "test": "test",
            "patients": "n",
            "effect": "effect",
            **_TESTED,
        },
        sort="p",
        down=False,
        max_rows=OTHER_ROWS,
    )


def _enrichment_tables(run: Run) -> list[Table]:
    return [
        *table_of(
            run,
            "enrichment.csv",
            "Are predictable genes enriched in a gene set?",
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
            "Are the genes of a set predicted better than other genes (GSEA)?",
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
    ]


def _other_tables(run: Run) -> list[Table]:
    return [
        *table_of(
            run,
            "follow.csv",
            "Predicted genes that follow the chosen score",
            {
                "gene": "gene",
                "patients": "n",
                "r": "r",
                **_TESTED,
                "part of the score": "part_of_score",
                "in the sets": "sets",
            },
            max_rows=OTHER_ROWS,
        ),
        *table_of(
            run,
            "coverage.csv",
            "Genes that each signature has and lacks, and its source",
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
            "Spots: numbers of genes that follow each cell type",
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
    ]


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the methods paragraph of a run of ``associate``."""
    if config.get("spots") is not None:
        return (
            "Predicted and measured expression of each gene were correlated with the proportions of"
            " deconvolved cell types over the spots of each section, after a spline of sequencing"
            " depth had been regressed out. p-values come from a modified t-test that allows for"
            " spatial autocorrelation and were corrected within each section (Benjamini-Hochberg)."
        )
    adjusted = ", ".join(config.get("adjust_for") or ())
    partial = f" Partial correlations were adjusted for {adjusted}." if adjusted else ""
    return (
        "The score of a signature was the mean, over its genes, of the rank of each gene among"
        " patients; a signature was not scored if fewer than half of its genes were there."
        " The cytolytic score was the geometric mean of its two genes where the unit allowed it."
        " Confidence intervals come from a jackknife over patients."
        f"{partial} p-values were corrected within each table (Benjamini-Hochberg). Enrichment of"
        " predictable genes in gene sets was tested by the hypergeometric distribution, with the"
        " panel as background, and by preranked GSEA."
    )


REPORT = ReportPart(
    kind="associate",
    position=3,
    sections=associate_sections,
    methods=methods,
    terms=frozenset({"r", "95 % interval", "p and q", "signature", "Spearman r"}),
    sentence=associate_point,
    files=("signatures.csv", "genes.csv", "covariates.csv", "enrichment.csv"),
)
