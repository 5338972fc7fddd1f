"""Describe the cohort in the report, and what each stage left out: join, tiling, failures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.finished_run import files_below, read_result_table
from tcgn_mil.experiments.runs.page import Section, Table, as_picture, as_table
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.cohort_file import read_cohort
from tcgn_mil.text import counted

_ROWS = 5000
_VERDICTS = {"pen": "pen marks", "out_of_focus": "out of focus", "fold": "folded tissue"}
_STEP, _LOST, _OF, _WHY = "step", "lost", "of", "why"


def cohort_section(folders: Sequence[Path], cohorts: Iterable[Path]) -> Section | None:
    """Make the section about the cohort, or return None if no stage wrote anything about it.

    Parameters
    ----------
    folders
        Folders that are searched for what the stages wrote.
    cohorts
        cohort.h5ad files that runs name. The report of their join is shown if it lies beside them.
    """
    cohorts = list(cohorts)
    joins = files_below(
        [*folders, *(path.parent for path in cohorts if path.parent.is_dir())], "join_summary.json"
    )
    patients = _patients_of(cohorts)
    section = Section("The cohort, and what was lost on the way")
    lost: list[dict[str, Any]] = []
    seen = []
    for path in joins:
        made = read_json(path, what="the summary of bulk", fix="run tcgn-mil bulk again")
        # A cohort may have been copied into several run folders; it is described once.
        if "join" not in made or made["join"] in seen:
            continue
        seen.append(made["join"])
        section.paragraphs.append(_join_sentence(made))
        lost += _join_losses(made)
        section.tables += _join_table(path.with_name("join_report.csv"))
        section.figures += [
            as_picture(
                picture,
                "Slides and samples that were kept or left out, and the values of all genes in each"
                " patient.",
            )
            for picture in [path.with_name("cohort.png")]
            if picture.is_file()
        ]
    lost += [
        row for path in files_below(folders, "dropped_spots.csv") for row in _spot_losses(path)
    ]
    lost += [row for path in files_below(folders, "tile_summary.csv") for row in _tile_losses(path)]
    lost += [
        row
        for path in files_below(folders, "dropped.csv")
        for row in _by_reason(path, "slide model", frozenset())
    ]
    lost += [
        row
        for path in files_below(folders, "dropped_patients.csv")
        for row in _by_reason(path, None, patients)
    ]
    failures = [read_result_table(path) for path in files_below(folders, "failures.csv")]
    failed = pd.concat(failures) if failures else pd.DataFrame()
    if len(failed):
        lost += [
            {
                _STEP: stage,
                _LOST: f"{len(part)} that failed",
                _OF: "",
                _WHY: "the table of failures names each",
            }
            for stage, part in failed.groupby("stage", sort=False)
        ]
    if not (section.paragraphs or lost):
        return None
    if lost:
        section.tables.insert(
            0, as_table(pd.DataFrame(lost), "What was lost at each step, and why")
        )
    else:
        section.paragraphs.append("No step lost a slide, a sample or a patient.")
    if len(failed):
        names = {"slide": "slide or file", "likely_fix": "likely fix"}
        section.tables.insert(
            1,
            as_table(
                failed.rename(columns=names), "What failed, why, and the likely fix", max_rows=_ROWS
            ),
        )
    return section


def _join_sentence(made: dict[str, Any]) -> str:
    join = made["join"]
    outcomes = "".join(
        f" {name}: {counts['patients']} of them, {counts['events']} events."
        for name, counts in join.get("outcomes", {}).items()
    )
    return (
        f"Expression of {join['genes']} genes ({', '.join(made.get('sources', ()))}; unit"
        f" {join['unit']}) was joined to slides by {join['key']}: {join['patients']} patients have"
        f" both, with {join['slides_kept']} of {join['slides']} slides and"
        f" {join['samples_kept']} of {join['samples']} samples of expression.{outcomes}"
        f"{_tissue(join)}"
    )


def _tissue(join: dict[str, Any]) -> str:
    """Return the sample types and the preservation of the patients' tissue, if they are stated."""
    types, preservation = join.get("sample_types", {}), join.get("preservation", {})
    if not types:
        return ""
    text = " Sample types: " + ", ".join(f"{kind} {count}" for kind, count in types.items()) + "."
    if len(types) > 1:
        text += (
            " The cohort mixes them; they differ in expression and in outcome, so that sample_type"
            " should be a covariate."
        )
    stated = {kind: count for kind, count in preservation.items() if kind != "not stated"}
    if stated:
        listed = ", ".join(f"{kind} {count}" for kind, count in stated.items())
        text += f" Preservation of the expression samples: {listed} patients."
    return text


def _join_losses(made: dict[str, Any]) -> list[dict[str, Any]]:
    totals = {"slide": made["join"]["slides"], "sample": made["join"]["samples"]}
    rows = []
    for text, count in made.get("dropped", {}).items():
        kind, _, reason = text.partition(": ")
        rows.append(
            {
                _STEP: "join of slides and expression",
                _LOST: f"{count} {kind}s",
                _OF: f"{totals[kind]}" if kind in totals else "",
                _WHY: reason or text,
            }
        )
    rows += [
        {
            _STEP: "search for slides",
            _LOST: counted(count, "file"),
            _OF: "",
            _WHY: reason,
        }
        for reason, count in made.get("files_left_out", {}).items()
    ]
    for reason, count in made.get("genes_left_out", {}).items():
        if count:
            rows.append(
                {
                    _STEP: "join of slides and expression",
                    _LOST: f"{count} genes",
                    _OF: "",
                    _WHY: reason,
                }
            )
    return rows


def _join_table(path: Path) -> list[Table]:
    """Return the table of slides and samples, those that were left out first."""
    if not path.is_file():
        return []
    table = read_result_table(path).sort_values("kept", kind="stable")
    names = {
        "kind": "what",
        "id": "id",
        "patient_id": "patient",
        "kept": "kept",
        "reason": "reason",
        "preparation": "preparation",
        "key": "joined by",
    }
    table = table[[name for name in names if name in table]]
    return [
        as_table(
            table.rename(columns=names),
            "Every slide and sample, kept or not, and why",
            max_rows=_ROWS,
        )
    ]


def _spot_losses(path: Path) -> Iterator[dict[str, Any]]:
    """Count the spots that were left out, by reason, among all spots of the sections."""
    dropped, sections = read_result_table(path), path.with_name("sections.csv")
    total = ""
    if sections.is_file():
        table = read_result_table(sections)
        if {"spots", "dropped"} <= set(table):
            total = str(int(table[["spots", "dropped"]].astype(int).to_numpy().sum()))
    for reason, part in dropped.groupby("reason", sort=False):
        yield {_STEP: "spots", _LOST: counted(len(part), "spot"), _OF: total, _WHY: reason}


def _tile_losses(path: Path) -> Iterator[dict[str, Any]]:
    table = read_result_table(path)
    verdicts = [name for name in _VERDICTS if name in table]
    numbers = table[["kept", *verdicts]].apply(pd.to_numeric, errors="coerce").fillna(0)
    for name in verdicts:
        if count := int(numbers[name].sum()):
            yield {
                _STEP: "tiling",
                _LOST: f"{count} tiles",
                _OF: f"{int(numbers.to_numpy().sum())}",
                _WHY: f"quality: {_VERDICTS[name]}",
            }
    flagged = table.loc[table.get("flags", pd.Series("", index=table.index)) != ""]
    for row in flagged.itertuples():
        yield {
            _STEP: "tiling",
            _LOST: "none",
            _OF: "",
            _WHY: f"slide {row.slide} was kept but is unusual: {row.flags}",
        }


def _patients_of(cohorts: Iterable[Path]) -> frozenset[str]:
    """Return the patients of the cohort.h5ad files that can be read."""
    names: set[str] = set()
    for path in cohorts:
        with contextlib.suppress(InputError):
            names |= set(read_cohort(path).obs_names) if path.suffix == ".h5ad" else set()
    return frozenset(names)


def _by_reason(path: Path, step: str | None, patients: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Count the rows of a table of dropped patients by reason.

    If the patients of the cohort are known, those of other cohorts, which a clinical table of many
    cohorts may list, are no losses and are left out.
    """
    table = read_result_table(path)
    if "reason" not in table:
        return
    # clinical and survive write a file of the same name; only survive writes risk.csv.
    after_survive = (path.parent / "risk.csv").is_file()
    if patients and not after_survive and "patient_id" in table:
        table = table[table["patient_id"].astype(str).isin(patients)]
    kinds = table["kind"] if "kind" in table else pd.Series("patient", index=table.index)
    for (reason, kind), part in table.groupby(["reason", kinds], sort=False):
        where = step or ("survival" if after_survive else "clinical table")
        yield {
            _STEP: where,
            _LOST: f"{len(part)} {kind}{'s' if len(part) > 1 else ''}",
            _OF: "",
            _WHY: reason,
        }
