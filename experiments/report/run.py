"""Write one HTML page about finished runs, to hand to a colleague (``tcgn-mil report``).

The page is made from what the runs wrote (tables, figures and summaries), never from models. Each
verb makes the sections of its own runs (see :mod:`tcgn_mil.experiments.verbs`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tcgn_mil.checkpoints.published import DIGESTS
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.report.losses import cohort_section
from tcgn_mil.experiments.report.stages import stages_of
from tcgn_mil.experiments.runs.finished_run import Run, files_below
from tcgn_mil.experiments.runs.glossary import TERMS
from tcgn_mil.experiments.runs.page import (
    Detail,
    Opening,
    Picture,
    Section,
    as_picture,
    as_table,
    write_report,
)
from tcgn_mil.experiments.runs.report_part import ReportPart
from tcgn_mil.experiments.runs.run_folder import RUN_FILE, finished_summary, read_run_file
from tcgn_mil.experiments.verbs import report_parts
from tcgn_mil.text import counted

# Figures for the top of the page, the best first: what was planted beside what was predicted, then
# maps of slides, then patients. Each row is a kind of run, files in its folder, and the caption.
_OPENING_FIGURES = (
    (
        "demo",
        "truth_beside_prediction.png",
        "Planted truth beside the prediction of a model that did not see this patient.",
    ),
    (
        "predict",
        "maps/*.png",
        "A slide, how much each of its tiles counts, and the scores of genes.",
    ),
    (
        "finetune",
        "scatter.png",
        "Measured and predicted expression of the genes that were predicted best, out of fold."
        " Each dot is a patient.",
    ),
    ("survive", "kaplan_meier.png", "Survival over time, by predicted risk."),
    ("associate", "signatures.png", "Agreement of predicted with measured signatures."),
    ("spot-cv", "headline.png", "The spot network beside its baselines, in each section."),
    ("pretrain", "maps_*.png", "Measured and predicted expression over a section."),
)


def write_run_report(folders: Sequence[str | Path], out: str | Path, *, title: str) -> Path:
    """Write the page about all finished runs in some folders.

    Parameters
    ----------
    folders
        Folders of runs, or folders at most three levels above them.
    out
        HTML file to write.
    title
        Title of the page.

    Returns
    -------
    The path of the page.

    Raises
    ------
    InputError
        If a folder does not exist, or none of them holds a finished run that the report can show.
    """
    parts = _report_parts()
    runs = {
        run.folder.resolve(): run
        for folder in folders
        for run in find_runs(folder)
        if run.kind in parts
    }
    unfinished = {
        run.folder.resolve(): run for folder in folders for run in unfinished_runs(folder)
    }
    if not runs and unfinished:
        first = next(iter(unfinished.values()))
        raise InputError(
            f"the {first.kind} run in it has not finished",
            path=first.folder,
            fix="run the same command again; a finished run has a file summary.json",
        )
    if not runs:
        raise InputError(
            f"holds no finished run of {', '.join(parts)}",
            path=folders[0],
            fix="give the folder that such a command wrote with --out, or a folder above it",
        )
    shown = _named(sorted(runs.values(), key=lambda run: parts[run.kind].position))
    share = 1 / max(1, sum(run.kind == "finetune" for run in shown))
    sections = [section for run in shown for section in parts[run.kind].sections(run, share)]
    searched = [Path(folder) for folder in folders]
    cohort = cohort_section(searched, _cohorts(shown))
    methods = Section("Methods", [methods_paragraph(parts[run.kind], run) for run in shown])
    used = {term for run in shown for term in parts[run.kind].terms}
    return write_report(
        out,
        title=title,
        sections=[
            *([cohort] if cohort else []),
            *sections,
            *_unfinished_section(list(unfinished.values())),
            methods,
            _runs_section(shown, parts),
        ],
        banner=next((str(run.summary["banner"]) for run in shown if "banner" in run.summary), None),
        opening=_opening(shown, parts),
        stages=stages_of(searched, shown, parts),
        words={term: meaning for term, meaning in TERMS.items() if term in used},
        kind="report",
        folders=[str(folder) for folder in folders],
    )


def _report_parts() -> dict[str, ReportPart]:
    """Return the parts of all verbs that have one, by kind of run, in their order on the page."""
    return {part.kind: part for part in sorted(report_parts(), key=lambda part: part.position)}


def _opening(runs: Sequence[Run], parts: Mapping[str, ReportPart]) -> Opening | None:
    """Return what stands at the top: plain sentences of the first run that has any, and a figure.

    Without such a run, these are the sentences of the first three runs.
    """
    plain = [sentences for run in runs if (sentences := parts[run.kind].opening(run))]
    said = [
        f"{run.name}: {text}" if run.name else text
        for run in runs
        if (text := parts[run.kind].sentence(run))
    ]
    sentences = plain[0] if plain else said[:3]
    figure = _opening_figure(runs)
    return Opening(sentences, figure) if sentences or figure else None


def _opening_figure(runs: Sequence[Run]) -> Picture | None:
    for kind, files, caption in _OPENING_FIGURES:
        for run in runs:
            drawn = sorted(run.folder.glob(files)) if run.kind == kind else []
            if drawn:
                return as_picture(drawn[0], caption)
    return None


def methods_paragraph(part: ReportPart, run: Run) -> str:
    """Return the methods paragraph of a run: what was done, and with which versions."""
    text = part.methods(run.made.get("config", {}), run.summary)
    torch = run.made.get("packages", {}).get("torch", "not stated")
    made = run.made
    return f"{text} tcgn-mil {made.get('tcgn_mil')}, Python {made.get('python')}, torch {torch}."


def find_runs(folder: str | Path) -> list[Run]:
    """Return the finished runs at or below a folder.

    Runs that have not finished (:func:`unfinished_runs`), folders of other tools, and published
    models are left out.

    Raises
    ------
    InputError
        If there is no such folder, or if run.json or summary.json in it is damaged.
    """
    return [run for run, finished in _runs_below(Path(folder)) if finished]


def unfinished_runs(folder: str | Path) -> list[Run]:
    """Return the runs at or below a folder that have not finished, without a summary."""
    return [run for run, finished in _runs_below(Path(folder)) if not finished]


def _runs_below(folder: Path) -> list[tuple[Run, bool]]:
    """Return the runs at or below a folder, and whether each has finished."""
    if not folder.is_dir():
        raise InputError(
            "no such folder", path=folder, fix="give the folder of a run, or one above it"
        )
    found = []
    for marker in files_below([folder], RUN_FILE):
        if (marker.parent / DIGESTS).is_file():
            continue
        summary, made = finished_summary(marker.parent), read_run_file(marker.parent)
        found.append((Run(marker.parent, made, summary or {}), summary is not None))
    return found


def _unfinished_section(runs: Sequence[Run]) -> list[Section]:
    """Name the runs that have not finished, so that nobody takes the page for all of the work."""
    if not runs:
        return []
    rows = [{"run": str(run.folder), "kind": run.kind} for run in runs]
    return [
        Section(
            "Runs that have not finished",
            tables=[as_table(pd.DataFrame(rows), "Runs without results")],
            warnings=[
                f"{counted(len(runs), 'run')} in these folders stopped, had its input refused, or"
                " has not ended yet, and this page has no results of it. The same command with the"
                " same --out continues such a run."
            ],
        )
    ]


def _named(runs: Sequence[Run]) -> list[Run]:
    """Name runs by their folders where the page has several of a kind."""
    kinds, folders = (
        Counter(run.kind for run in runs),
        Counter((run.kind, run.folder.name) for run in runs),
    )
    named = []
    for run in runs:
        parts = 1 + (folders[run.kind, run.folder.name] > 1)
        name = "/".join(run.folder.resolve().parts[-parts:]) if kinds[run.kind] > 1 else ""
        named.append(dataclasses.replace(run, name=name))
    return named


def _cohorts(runs: Sequence[Run]) -> list[Path]:
    """Return the cohort.h5ad files that the configs of the runs name."""
    named = [run.made.get("config", {}).get(key) for run in runs for key in ("cohort", "measured")]
    return [Path(name) for name in dict.fromkeys(named) if name]


def _runs_section(runs: Sequence[Run], parts: Mapping[str, ReportPart]) -> Section:
    """Make the section with the commands, versions and configs of all runs."""
    rows = [
        {
            "run": str(run.folder),
            "command": parts[run.kind].command(run),
            "tcgn-mil": run.made.get("tcgn_mil"),
            "commit": str(run.made.get("git_commit") or "not stated")[:16],
            "python": run.made.get("python"),
            **_packages(run.made),
        }
        for run in runs
    ]
    columns = list(rows[0])
    return Section(
        "Commands, versions and configs",
        [
            "Each command repeats its run in a new folder, from the config that the run kept. Paths"
            " in a config are relative to the folder in which the command was run."
        ],
        [
            as_table(pd.DataFrame(rows)[columns[:2]], "Commands"),
            as_table(pd.DataFrame(rows)[[columns[0], *columns[2:]]].astype(str), "Versions"),
        ],
        details=[
            Detail(
                f"Config of {run.folder.name} ({run.kind})",
                yaml.safe_dump(run.made.get("config"), sort_keys=False),
            )
            for run in runs
        ],
    )


def _packages(made: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(version) for name, version in made.get("packages", {}).items()}
