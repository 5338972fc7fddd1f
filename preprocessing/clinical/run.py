"""Write clinical.csv from one or several clinical tables (``tcgn-mil clinical``).

The patients are those of all tables. If tables overlap, the first one given wins, separately for
each patient and endpoint and for each value of a covariate. What it lacks is taken from the next.
A figure, dropped_patients.csv and agreement.csv are written beside clinical.csv.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.clinical_file import write_survival
from tcgn_mil.preprocessing.clinical.checks import (
    agreement_summary,
    alarms,
    compare,
    describe,
    disagreements,
)
from tcgn_mil.preprocessing.clinical.figure import draw_survival
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.outcomes import Dropped
from tcgn_mil.preprocessing.clinical.reader import ClinicalTable, of_cohort, read_clinical
from tcgn_mil.text import duplicates
from tcgn_mil.types.outcomes import SurvivalTable

DROPPED_FILE, AGREEMENT_FILE = "dropped_patients.csv", "agreement.csv"


@dataclass(frozen=True)
class ClinicalSummary:
    """Summary of a clinical.csv.

    Attributes
    ----------
    patients
        Number of patients.
    dropped
        Number of rows of dropped_patients.csv.
    notes
        Messages that are printed for the user.
    warnings
        Contradictions to the declared unit or coding that were allowed.
    agreement
        Agreement of each pair of tables, for each endpoint.
    """

    patients: int
    dropped: int
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    agreement: tuple[dict[str, object], ...]


def write_clinical(
    paths: Sequence[str | Path],
    out_path: str | Path,
    options: ClinicalOptions,
    *,
    layouts: Sequence[str] = ("auto",),
    allow_unusual: bool = False,
    patients: Collection[str] | None = None,
) -> ClinicalSummary:
    """Read clinical tables, check them, and write them as one.

    Parameters
    ----------
    paths
        Tables. The first one wins.
    out_path
        The .csv file to write.
    options
        Facts that the user declares about the tables.
    layouts
        One layout for all tables, or one for each.
    allow_unusual
        Report contradictions to the declared unit or coding as warnings, instead of raising the
        first of them.
    patients
        Patients of the cohort. Others are counted and left out, so that a table of many cohorts
        gives a file and a report about this one. By default all patients are kept.

    Returns
    -------
    ClinicalSummary
        Numbers, and messages that are printed for the user.

    Raises
    ------
    InputError
        If a table cannot be read (see :func:`read_clinical`), no table uses one of the options, the
        values contradict the declared unit or coding, or no usable outcome is left.
    """
    out_path = Path(out_path)
    if len(layouts) not in (1, len(paths)):
        raise InputError(
            f"{len(layouts)} formats for {len(paths)} files",
            fix="give --format once, or once for each file",
        )
    each = list(layouts) * len(paths) if len(layouts) == 1 else layouts
    tables = [
        read_clinical(path, options, requested_layout=layout)
        for path, layout in zip(paths, each, strict=True)
    ]
    _check_options_used(tables, options)
    elsewhere: list[str] = []
    if patients is not None:
        within = [of_cohort(table, patients) for table in tables]
        tables = [table for table, _ in within]
        elsewhere = [note for _, note in within if note]
    compared = [compare(first, second) for first, second in combinations(tables, 2)]
    agreement = pd.concat(compared) if compared else None
    summary = [] if agreement is None else agreement_summary(agreement)
    contradictions = [alarm for table in tables for alarm in alarms(table)]
    contradictions += disagreements(summary)
    if contradictions and not allow_unusual:
        raise contradictions[0]
    survival = _merged(tables)
    dropped = [lost for table in tables for lost in table.dropped]
    notes = [note for table in tables for note in (*describe(table), *table.notes)]
    notes += [*elsewhere, *_empty_covariates(survival)]
    meta = {
        "sources": [_source(table) for table in tables],
        "dropped": {
            f"{name or 'covariate'}: {why}": count
            for (name, why), count in _counts(dropped).items()
        },
        "agreement": summary,
        "warnings": [str(alarm) for alarm in contradictions],
        "notes": notes,
    }
    write_survival(out_path, survival, meta=meta)
    _write_beside(out_path, dropped, agreement)
    draw_survival(out_path.with_suffix(".png"), survival)
    written = len({name for table in survival for name in table.patient_id})
    return ClinicalSummary(
        written, len(dropped), tuple(notes), tuple(map(str, contradictions)), tuple(summary)
    )


def _empty_covariates(survival: Sequence[SurvivalTable]) -> list[str]:
    """Return a sentence for each covariate that no patient of the cohort has a value of."""
    held: dict[str, bool] = {}
    for table in survival:
        for name, values in table.covariates.items():
            held[str(name)] = held.get(str(name), False) or bool(values.notna().any())
    return [
        f"covariate {name} has no value for any patient of this cohort"
        for name, given in held.items()
        if not given
    ]


def _check_options_used(tables: Sequence[ClinicalTable], options: ClinicalOptions) -> None:
    """Raise InputError for an option without effect, which shows a misunderstanding."""
    names = [table.layout.name for table in tables]
    if (
        options.times
        or options.censored_times
        or options.event_coding
        or options.event_values
        or options.entry
    ) and "columns" not in names:
        raise InputError(
            f"columns, unit or coding are declared, but the files are read as {', '.join(names)},"
            " which states them",
            fix="remove these options, or give --format columns",
        )
    absent = [
        name for name in options.covariates if not any(name in table.covariates for table in tables)
    ]
    if absent:
        raise InputError(
            f"no file has the covariate {', '.join(absent)}",
            fix="check --covariate, or add its file",
        )
    if repeated := duplicates([str(table.path) for table in tables]):
        raise InputError(f"{repeated[0]} is given twice", fix="give each file once")
    if not any(table.layout.endpoints for table in tables):
        raise InputError("no file has times and events", fix="add one, or name its columns")


def _merged(tables: Sequence[ClinicalTable]) -> list[SurvivalTable]:
    """Merge the tables into one for each endpoint; the first table wins."""
    outcomes = pd.concat(
        [table.outcomes for table in tables if len(table.outcomes)] or [tables[0].outcomes]
    )
    # The tables are in the order given, so the first row of a patient is that of the first table.
    outcomes = outcomes.drop_duplicates(["patient_id", "endpoint"])
    if outcomes.empty:
        lost = _counts([row for table in tables for row in table.dropped])
        why = ", ".join(f"{reason} ({count})" for (_, reason), count in lost.most_common(3))
        raise InputError(
            f"no patient has a usable time and event: {why}",
            path=tables[0].path,
            fix="check the columns of times and events",
        )
    covariates = tables[0].covariates.replace("", pd.NA)
    for table in tables[1:]:
        # An empty cell is missing, so the next table may fill it.
        covariates = covariates.combine_first(table.covariates.replace("", pd.NA))
    wanted = list(dict.fromkeys(name for table in tables for name in table.covariates.columns))
    late = any(table.layout.entry is not None for table in tables)
    return [
        SurvivalTable(
            endpoint=str(endpoint),
            patient_id=tuple(rows["patient_id"]),
            time_days=rows["time_days"].to_numpy(dtype="float64"),
            event=rows["event"].to_numpy(dtype=bool),
            covariates=covariates[wanted].reindex(rows["patient_id"]),
            entry_days=rows["entry_days"].to_numpy(dtype="float64") if late else None,
        )
        for endpoint, rows in outcomes.groupby("endpoint", sort=False)
    ]


def _source(table: ClinicalTable) -> dict[str, object]:
    """Describe how a file was read, for the provenance."""
    layout = asdict(table.layout)
    layout["event_values"] = sorted(table.layout.event_values)
    layout["endpoints"] = [list(endpoint) for endpoint in table.layout.endpoints]
    return {"file": table.path.name, **layout}


def _counts(dropped: Sequence[Dropped]) -> Counter[tuple[str, str]]:
    """Count dropped rows by endpoint and reason, without the values in the reason."""
    return Counter((row.endpoint, row.reason.split(" (")[0].split(":")[0]) for row in dropped)


def _write_beside(
    out_path: Path, dropped: Sequence[Dropped], agreement: pd.DataFrame | None
) -> None:
    rows = pd.DataFrame(dropped, columns=list(Dropped._fields))
    write_csv(out_path.parent / DROPPED_FILE, rows, digits=None)
    path = out_path.parent / AGREEMENT_FILE
    if agreement is None:
        path.unlink(missing_ok=True)
    else:
        write_csv(path, agreement, digits=10)
