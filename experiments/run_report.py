"""``tcgn-mil report``: one HTML page over finished runs, to be handed to a colleague.

Reads what runs have written (tables, figures, summaries), never models. Each kind of run has its section; what a run
did not write is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.methods_text import methods_paragraph
from tcgn_mil.experiments.report import Section, as_picture, as_table, write_report
from tcgn_mil.experiments.run_folder import RUN_FILE, finished_summary

GENE_ROWS = 25_000
_DEEPEST = 3
_SHOWN_MAPS = 6


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, what made it, and its summary."""

    folder: Path
    made: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Verb that made it."""
        return str(self.made.get("kind"))


def write_run_report(folders: Sequence[str | Path], out: str | Path, *, title: str) -> Path:
    """Write the page over all finished runs in `folders`, at most three folders deep; returns its path.

    Raises
    ------
    InputError
        If a folder is not there, or none of them holds a finished run of a known kind.
    """
    runs = [run for folder in folders for run in find_runs(folder)]
    order = list(_SECTIONS)
    runs = sorted((run for run in runs if run.kind in order), key=lambda run: order.index(run.kind))
    if not runs:
        raise InputError(
            f"holds no finished run of {', '.join(order)}", path=folders[0],
            fix="give the folder that such a command wrote as --out, or a folder above it",
        )  # fmt: skip
    sections = [_SECTIONS[run.kind](run) for run in runs]
    for section in _join_sections(runs):
        sections.insert(0, section)
    sections.append(Section("Methods", [methods_paragraph(run.kind, run.made, run.summary) for run in runs]))
    return write_report(
        out, title=title, sections=sections,
        runs=[{"folder": run.folder.name, **{key: run.made.get(key) for key in _SHOWN_OF_RUN}} for run in runs],
    )  # fmt: skip


_SHOWN_OF_RUN = ("kind", "tcgn_mil", "git_commit", "python", "packages", "config")


def find_runs(folder: str | Path) -> list[Run]:
    """Finished runs at or below a folder, those of others' tools and unfinished ones left out."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder", path=folder, fix="give the folder of a run, or one above it")
    found = []
    for depth in range(_DEEPEST + 1):
        for marker in sorted(folder.glob("/".join(["*"] * depth + [RUN_FILE]))):
            summary = finished_summary(marker.parent)
            if summary is not None:
                found.append(Run(marker.parent, json.loads(marker.read_text(encoding="utf-8")), summary))
    return found


def _join_sections(runs: Sequence[Run]) -> list[Section]:
    """How slides and expression were joined, for cohorts that the runs name and that are still there."""
    cohorts = dict.fromkeys(str(run.made.get("config", {}).get("cohort", "")) for run in runs)
    sections = []
    for cohort in cohorts:
        path = Path(cohort).parent / "join_summary.json"
        if not cohort or not path.is_file():
            continue
        join = json.loads(path.read_text(encoding="utf-8")).get("join", {})
        counts = pd.DataFrame(
            [(str(key).replace("_", " "), value) for key, value in join.items() if not isinstance(value, dict)],
            columns=["what", "count or value"],
        )
        section = Section("The cohort", [], [as_table(counts, f"Join of slides and expression ({path.parent.name})")])
        report = path.with_name("join_report.csv")
        if report.is_file():
            table = pd.read_csv(report, keep_default_na=False)
            section.tables.append(as_table(table, "Every slide and sample, kept or not, and why", max_rows=GENE_ROWS))
        sections.append(section)
    return sections


def _table(run: Run, name: str, caption: str, *, sort: str | None = None, max_rows: int = 500) -> list[Any]:
    """A table of the run, if it wrote one that has rows."""
    path = run.folder / name
    if not path.is_file():
        return []
    frame = pd.read_csv(path, keep_default_na=True)
    if sort in frame:
        frame = frame.sort_values(sort, ascending=False, kind="stable")
    return [as_table(frame, caption, max_rows=max_rows)] if len(frame) else []


def _pictures(run: Run, captions: Mapping[str, str]) -> list[Any]:
    """Those figures that the run drew."""
    return [as_picture(run.folder / name, text) for name, text in captions.items() if (run.folder / name).is_file()]


def _slide_section(run: Run) -> Section:
    summary = run.summary
    coverage = summary.get("coverage") or {}
    measured = coverage.get("measured")
    lines = [
        f"{summary['patients']} patients in {summary['folds']} folds, {summary['genes']} genes in {summary['unit']};"
        f" {summary['dropped']} slides or patients could not be used (last table)."
        " r is taken within test folds and combined over them; every patient is predicted by a model that saw it in"
        " neither training nor validation.",
        f"{summary['predictable']} genes are predictable: q below 0.05 and above every baseline."
        + (f" Intervals of {coverage['stated']:.0%} hold {measured:.1%} of out-of-fold values." if measured else ""),
        *(f"Mind: {label}." for label in summary.get("labels", ())),
    ]
    return Section(
        "Bulk expression from slides, out of fold", lines,
        [
            *_table(run, "headline.csv", "Median r over genes, the model beside its baselines"),
            *_table(run, "cohorts.csv", "By source of the expression"),
            *_table(run, "genes.csv", "Per gene", sort="r_model", max_rows=GENE_ROWS),
            *_table(run, "dropped.csv", "What could not be used, and why"),
        ],
        _pictures(run, {
            "headline.png": "Median r with its 95 % interval over patients",
            "genes.png": "Distribution of r over genes", "scatter.png": "The best predicted genes, out of fold",
            "null.png": "Calibration: p-values, and refits on permuted labels", "curves.png": "Training curves",
        }),
    )  # fmt: skip


def _predict_section(run: Run) -> Section:
    summary = run.summary
    lines = [
        f"{summary['patients']} patients, {summary['slides']} slides, {summary['tiles']} tiles; {summary['unit']}."
    ]
    if odd := summary.get("out_of_distribution"):
        lines.append(f"Unlike the slides of training: {', '.join(odd)}.")
    obs = anndata.read_h5ad(run.folder / "predicted.h5ad", backed="r").obs.reset_index()
    maps = sorted((run.folder / "maps").glob("*.png"))[:_SHOWN_MAPS]
    return Section(
        "Predictions and maps", lines,
        [as_table(obs, "Patients"), *_table(run, "failures.csv", "Slides that failed, why, and the likely fix")],
        [as_picture(path, f"{path.stem}: attention and standardised tile scores (no abundances)") for path in maps],
    )  # fmt: skip


def _associate_section(run: Run) -> Section:
    notes = [str(note) for note in run.summary.get("notes", ())]
    refused = [f"{row['set']} ({row['source']}): {row['refused']}" for row in run.summary.get("refused", ())]
    lines = [*notes, *([f"Not scored: {'; '.join(refused)}."] if refused else [])]
    return Section(
        "Immune genes and signatures", lines,
        [
            *_table(run, "signatures.csv", "Signatures, predicted against measured", sort="spearman_r"),
            *_table(run, "genes.csv", "Genes, predicted against measured", sort="spearman_r", max_rows=GENE_ROWS),
            *_table(run, "covariates.csv", "Scores and genes against covariates", max_rows=5000),
            *_table(run, "enrichment.csv", "Are the predictable genes enriched in a set"),
            *_table(run, "follow.csv", "Genes that follow the chosen score", max_rows=GENE_ROWS),
        ],
        _pictures(run, {
            "signatures.png": "Signatures, with 95 % intervals", "scatter.png": "Predicted and measured scores",
            "covariates.png": "Signatures and covariates", "enrichment.png": "Enrichment of predictable genes",
            "follow.png": "Genes that follow the chosen score",
        }),
    )  # fmt: skip


def _survive_section(run: Run) -> Section:
    return Section(
        "Survival", [str(run.summary["sentence"]), *(str(label) for label in run.summary.get("labels", ()))],
        [
            *_table(run, "concordance.csv", "Concordance out of fold, pairs within folds"),
            *_table(run, "likelihood_ratio.csv", "What a score adds"),
            *_table(run, "hazard_ratios.csv", "Hazard ratios"),
            *_table(run, "proportional_hazards.csv", "Are hazards proportional, and what to do if not"),
            *_table(run, "groups.csv", "Above and below the training median"),
            *_table(run, "exploratory_screen_predicted.csv", "Exploratory screen", max_rows=GENE_ROWS),
        ],
        _pictures(run, {
            "kaplan_meier.png": "Kaplan-Meier curves by the training-median cut, with patients at risk",
            "concordance.png": "Concordance with 95 % intervals", "forest.png": "Hazard ratios",
            "accuracy.png": "Accuracy over time",
        }),
    )  # fmt: skip


def _spot_section(run: Run) -> Section:
    return Section(
        "Spots: the encoder", [str(run.summary["sentence"]), *(str(label) for label in run.summary["labels"])],
        [
            *_table(run, "summary.csv", "Over sections"), *_table(run, "sections.csv", "Each section"),
            *_table(run, "genes.csv", "Per gene", sort="depth_adjusted_r_model", max_rows=GENE_ROWS),
        ],
        _pictures(run, {"headline.png": "Headline of each section", "detection.png": "By detection",
                        "curves.png": "Training curves"}),
    )  # fmt: skip


_SECTIONS: Mapping[str, Callable[[Run], Section]] = {
    "finetune": _slide_section, "predict": _predict_section, "associate": _associate_section,
    "survive": _survive_section, "spot-cv": _spot_section,
}  # fmt: skip
