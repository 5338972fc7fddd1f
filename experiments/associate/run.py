"""Relate predicted expression to measured genes, signatures, covariates and gene sets.

This is the verb ``tcgn-mil associate`` (docs/protocol.md, section Immune association). It reads
predictions and tables and never models, so that measured expression and predictions of other tools
can be analysed as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.experiments.associate.associations import (
    FollowedScore,
    covariate_association,
    followed_score,
    genes_that_follow,
)
from tcgn_mil.experiments.associate.cell_types import associate_cell_types
from tcgn_mil.experiments.associate.config import FILES, KIND, AssociationConfig
from tcgn_mil.experiments.associate.figures import (
    SIGNIFICANT,
    draw_agreement,
    draw_covariates,
    draw_enrichment,
    draw_volcano,
)
from tcgn_mil.experiments.associate.study import AssociationStudy, load_study, predictable_genes
from tcgn_mil.experiments.associate.tables import (
    coverage_table,
    gene_prediction,
    score_table,
    scored_sources,
    signature_prediction,
)
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.runs.inputs import begin_again, existing
from tcgn_mil.experiments.runs.run_folder import finish_run
from tcgn_mil.io.atomic import plain_rows, write_csv
from tcgn_mil.plotting import r_text, shortened
from tcgn_mil.signatures.enrichment import hypergeometric, preranked

_SCATTERED, _TOP_ROWS = 8, 10  # signatures in the scatter plot, and rows in the summary


def run(config: AssociationConfig, out_dir: str | Path) -> dict[str, Any]:
    """Write the tables and figures that the inputs allow.

    Writes ``coverage.csv`` and ``scores.csv``; with measured values ``signatures.csv`` and
    ``genes.csv`` (r, interval, p, q); with covariates ``covariates.csv``; ``enrichment.csv`` and
    ``gsea.csv`` where predictable genes or their r are known; with ``follow`` the table
    ``follow.csv``. Each table has a figure beside it. A run starts from the beginning each time.

    Parameters
    ----------
    config
        Files, gene sets and options of the analysis. With ``spots``, cell types are analysed
        instead (:func:`~tcgn_mil.experiments.associate.cell_types.associate_cell_types`).
    out_dir
        Folder for tables and figures.

    Returns
    -------
    dict
        The most certain results, with notes that a reader should know.
    """
    if config.spots is not None:
        return associate_cell_types(config, out_dir)
    # All inputs are read and checked before the folder is made, so that wrong input leaves none.
    study = load_study(config)
    followed = None if config.follow is None else followed_score(study, config.follow)
    chosen = predictable_genes(config, study)
    out_dir, set_aside = begin_again(out_dir, KIND, config, existing(config, FILES))
    coverage = coverage_table(study)
    write_csv(out_dir / "coverage.csv", coverage)
    write_csv(out_dir / "scores.csv", score_table(study), index=True)
    summary: dict[str, Any] = {
        "patients": len(study.patients),
        "genes": len(study.predicted.genes),
        "measured": study.measured is not None,
        "folds": None if study.folds is None else len(np.unique(study.folds)),
        "adjusted_for": list(config.adjust_for),
        "scored": list(study.predicted.scores.names),
        "refused": plain_rows(
            coverage.loc[coverage["refused"] != "", ["source", "set", "refused"]]
        ),
        "missing_genes": plain_rows(
            coverage.loc[
                (coverage["refused"] == "") & (coverage["missing_genes"] != ""),
                ["source", "set", "present", "genes", "missing_genes"],
            ]
        ),
        "notes": [*study.notes, *set_aside],
    }
    genes = None
    if study.measured is not None:
        genes = _write_agreement(config, study, summary, out_dir)
    if len(study.covariates.columns):
        _write_covariates(study, summary, out_dir)
    _write_enrichment(config, study, genes, chosen, summary, out_dir)
    if followed is not None:
        _write_followers(study, followed, summary, out_dir)
    return finish_run(out_dir, summary)


def _write_agreement(
    config: AssociationConfig, study: AssociationStudy, summary: dict[str, Any], out_dir: Path
) -> pd.DataFrame:
    """Write how well genes and signatures are predicted; return the table of genes."""
    assert study.measured is not None
    signatures = signature_prediction(config, study)
    genes = gene_prediction(config, study)
    write_csv(out_dir / "signatures.csv", signatures)
    write_csv(out_dir / "genes.csv", genes)
    pooled = "over all patients" if study.folds is None else "within folds, combined"
    if len(signatures):
        title = f"{len(study.patients)} patients, r {pooled}"
        draw_agreement(signatures, out_dir / "signatures.png", title=title)
        _scatter(study, signatures, out_dir / "scatter.png")
    # Genes of the sets are shown beside all others: are immune genes predicted better than most?
    immune = (genes["sets"] != "").to_numpy()
    r = genes["pearson_r"].to_numpy()
    figures.gene_distributions(
        {"genes of the sets": r[immune], "other genes": r[~immune]},
        out_dir / "genes.png",
        xlabel=f"Pearson r of predicted and measured, {pooled}",
    )
    columns = [
        column
        for column in (
            "signature",
            "n",
            "pearson_r",
            "spearman_r",
            "spearman_low",
            "spearman_high",
            "spearman_q",
            "partial_r",
            "partial_q",
        )
        if column in signatures
    ]
    summary["signatures"] = plain_rows(signatures[columns])
    summary["genes_tested"], summary["genes_significant"] = (
        len(genes),
        int((genes["pearson_q"] < SIGNIFICANT).sum()),
    )
    return genes


def _write_followers(
    study: AssociationStudy, score: FollowedScore, summary: dict[str, Any], out_dir: Path
) -> None:
    """Write which genes follow the chosen score."""
    table = genes_that_follow(study, score)
    write_csv(out_dir / "follow.csv", table)
    sure = int((table["q"] < SIGNIFICANT).sum())
    title = f"{len(table)} {next(iter(scored_sources(study)))} genes, {sure} at q < {SIGNIFICANT}"
    name = shortened(f"{score.name} ({score.source})")
    draw_volcano(table, out_dir / "follow.png", score=name, title=title)
    summary["follow"] = {
        "score": score.name,
        "source": score.source,
        "genes": sure,
        "top": plain_rows(table.head(_TOP_ROWS)[["gene", "n", "r", "q", "part_of_score"]]),
    }


def _scatter(study: AssociationStudy, signatures: pd.DataFrame, path: Path) -> None:
    """Draw predicted against measured scores of the best predicted signatures."""
    assert study.measured is not None
    best = signatures.sort_values("spearman_r", ascending=False, kind="stable").head(_SCATTERED)
    first, second = study.predicted.scores, study.measured.scores
    figures.gene_scatter(
        best["signature"].tolist(),
        second.values[:, [second.names.index(name) for name in best["signature"]]],
        first.values[:, [first.names.index(name) for name in best["signature"]]],
        path,
        unit="score",
        patients=study.patients,
        titles=[
            f"{shortened(row.signature)}\nSpearman {r_text(row.spearman_r)}"
            for row in best.itertuples()
        ],
    )


def _write_covariates(study: AssociationStudy, summary: dict[str, Any], out_dir: Path) -> None:
    """Write the tests of signatures and genes against covariates."""
    table = covariate_association(study)
    write_csv(out_dir / "covariates.csv", table)
    draw_covariates(table, out_dir / "covariates.png")
    best = table[table["kind"] == "signature"].assign(size=table["effect"].abs())
    # Many p-values can be 0 in floating point; the larger effect then comes first.
    best = best.sort_values(["p", "size"], ascending=[True, False], kind="stable").head(_TOP_ROWS)
    summary["covariates"] = {
        "tests": len(table),
        "significant": int((table["q"] < SIGNIFICANT).sum()),
        "top": plain_rows(best[["source", "name", "covariate", "test", "n", "effect", "q"]]),
    }


def _write_enrichment(
    config: AssociationConfig,
    study: AssociationStudy,
    genes: pd.DataFrame | None,
    chosen: tuple[str, ...] | None,
    summary: dict[str, Any],
    out_dir: Path,
) -> None:
    """Write the enrichment of predictable genes in sets, and GSEA of all genes ranked by r.

    Each of the two needs something that may not be known: which genes are predictable, or their r.
    """
    background = _background(config, study, genes, chosen)
    sets = list(study.sets.values())
    over = pd.DataFrame()
    if background.chosen is not None:
        over = hypergeometric(background.chosen, background.panel, sets)
    ranked = pd.DataFrame()
    statistic = study.source.r if genes is None else genes["pearson_r"].to_numpy()
    if statistic is not None and np.isfinite(statistic).any():
        names = study.predicted.genes if genes is None else tuple(genes["gene"])
        ranked = preranked(
            names,
            statistic,
            sets,
            min_genes=config.min_set_genes,
            permutations=config.permutations,
            seed=config.seed,
        )
    summary["enrichment"] = {
        "predictable": None if background.chosen is None else len(background.chosen),
        "source": None if background.chosen is None else background.source,
        "background": len(background.panel),
    }
    for name, table in (("enrichment", over), ("gsea", ranked)):
        if len(table):
            write_csv(out_dir / f"{name}.csv", table)
            kept = [
                column
                for column in ("set", "in_panel", "chosen", "fold", "nes", "p", "q")
                if column in table
            ]
            summary["enrichment"][name] = plain_rows(
                table.sort_values("p", kind="stable").head(_TOP_ROWS)[kept]
            )
    if len(over) or len(ranked):
        draw_enrichment(over, ranked, out_dir / "enrichment.png")


class _Background(NamedTuple):
    """Predictable genes (None if they are not known), who called them so, and the panel."""

    chosen: tuple[str, ...] | None
    source: str
    panel: tuple[str, ...]


def _background(
    config: AssociationConfig,
    study: AssociationStudy,
    genes: pd.DataFrame | None,
    chosen: tuple[str, ...] | None,
) -> _Background:
    """Return the predictable genes and the panel that they are compared with.

    Genes outside the panel could not have been found, so the panel is the background. If nobody
    called genes predictable, those that are significant in this run are taken, and the panel is
    then the genes that were tested here.
    """
    if chosen is not None or genes is None:
        return _Background(chosen, "list" if config.genes else "predictions", study.predicted.genes)
    significant = (genes["pearson_q"] < SIGNIFICANT) & (genes["pearson_r"] > 0)
    return _Background(
        tuple(genes.loc[significant, "gene"]),
        "r > 0 at q < 0.05 here; no baseline considered",
        tuple(genes["gene"]),
    )
