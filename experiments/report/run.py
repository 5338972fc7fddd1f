"""``tcgn-mil report``: one HTML page over finished runs, to be handed to a colleague.

Reads what runs have written (tables, figures, summaries), never models. Each kind of run has its sections; what a run
did not write is left out.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate.report import _associate
from tcgn_mil.experiments.predict.report import _predict
from tcgn_mil.experiments.report.losses import cohort_section
from tcgn_mil.experiments.report.sections import SECTIONS, points
from tcgn_mil.experiments.runs.finished_run import Run, files_below
from tcgn_mil.experiments.runs.glossary import terms
from tcgn_mil.experiments.runs.page import Detail, Section, as_table, write_report
from tcgn_mil.experiments.runs.run_folder import RUN_FILE, finished_summary
from tcgn_mil.experiments.slide_level.report import _finetune
from tcgn_mil.experiments.spot_level.report import _spots
from tcgn_mil.experiments.survive.report import _survive


def write_run_report(folders: Sequence[str | Path], out: str | Path, *, title: str) -> Path:
    """Write the page over all finished runs in `folders`, at most three folders deep; returns its path.

    Raises
    ------
    InputError
        If a folder is not there, or none of them holds a finished run of a known kind.
    """
    order = list(SECTIONS)
    found = {
        run.folder.resolve(): run
        for folder in folders
        for run in find_runs(folder)
        if run.kind in order
    }
    if not found:
        raise InputError(
            f"holds no finished run of {', '.join(order)}",
            path=folders[0],
            fix="give the folder that such a command wrote as --out, or a folder above it",
        )
    runs = _named(sorted(found.values(), key=lambda run: order.index(run.kind)))
    share = 1 / max(1, sum(run.kind == "finetune" for run in runs))
    sections = [section for run in runs for section in SECTIONS[run.kind](run, share)]
    cohort = cohort_section([Path(folder) for folder in folders], _cohorts(runs))
    methods = Section(
        "Methods", [methods_paragraph(run.kind, run.made, run.summary) for run in runs]
    )
    return write_report(
        out,
        title=title,
        sections=[*([cohort] if cohort else []), *sections, methods, _runs_section(runs)],
        points=points(runs),
        words=terms(run.kind for run in runs),
        kind="report",
        folders=[str(folder) for folder in folders],
    )


def find_runs(folder: str | Path) -> list[Run]:
    """Finished runs at or below a folder, those of others' tools and unfinished ones left out.

    Raises
    ------
    InputError
        If there is no such folder, or a run.json or summary.json in it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            "no such folder", path=folder, fix="give the folder of a run, or one above it"
        )
    found = []
    for marker in files_below([folder], RUN_FILE):
        try:
            summary = finished_summary(marker.parent)
            made = json.loads(marker.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(
                f"run.json or summary.json is damaged ({error})",
                path=marker.parent,
                fix="run the command again",
            ) from error
        if summary is not None:
            found.append(Run(marker.parent, made, summary))
    return found


def _named(runs: Sequence[Run]) -> list[Run]:
    """Runs of which there are several of a kind are told apart by their folders, those of other kinds are not named."""
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
    """cohort.h5ad files that the runs name."""
    named = [run.made.get("config", {}).get(key) for run in runs for key in ("cohort", "measured")]
    return [Path(name) for name in dict.fromkeys(named) if name]


def _runs_section(runs: Sequence[Run]) -> Section:
    """Commands, versions and configs of all runs."""
    rows = [
        {
            "run": str(run.folder),
            "command": _command(run),
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
            "Each command makes its run again from the config that the run kept, into a new folder. Paths in a config are"
            " as they were given, from the folder in which the command ran."
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


def _command(run: Run) -> str:
    """The command that does the same."""
    config = run.made.get("config", {})
    if run.kind == "predict":
        return " ".join(["tcgn-mil predict", *_predict_options(config), "--out NEW"])
    verb = "slide-cv" if run.kind == "finetune" and config.get("refits") else run.kind
    return f"tcgn-mil {verb} --config {run.folder / 'config.yaml'} --out NEW"


def _predict_options(config: Mapping[str, Any]) -> list[str]:
    """Options of ``predict``, which takes no --config."""
    said = [f"--model {config['model']} --features {config['features']}"]
    said += [
        f"--{key.replace('_', '-')} {config[key]}"
        for key in ("thumbnails", "map_signatures")
        if config.get(key)
    ]
    said += [f"--map-gene {gene}" for gene in config.get("map_genes", ())]
    said += [f"--table-format {name}" for name in config.get("table_formats", ()) if name != "csv"]
    said += [] if config.get("maps", True) else ["--no-maps"]
    return said + (["--allow-other-size"] if config.get("allow_other_size") else [])


def _packages(made: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(version) for name, version in made.get("packages", {}).items()}


def methods_paragraph(kind: str, made: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """One paragraph for a run.

    Parameters
    ----------
    kind
        Verb that made it.
    made, summary
        Its run.json and summary.json.
    """
    text = {
        "finetune": _finetune,
        "predict": _predict,
        "associate": _associate,
        "survive": _survive,
        "spot-cv": _spots,
    }[kind](made.get("config", {}), summary)
    return f"{text} tcgn-mil {made.get('tcgn_mil')}, Python {made.get('python')}, torch {_version(made, 'torch')}."


def _version(made: Mapping[str, Any], package: str) -> str:
    return str(made.get("packages", {}).get(package, "not stated"))
