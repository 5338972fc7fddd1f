"""clinical.csv from one or several sources; a figure, dropped_patients.csv and agreement.csv beside it.

Where sources overlap the first one given wins, for each patient and endpoint, and for each covariate's value; what it
lacks is filled from the next. Patients are those of all sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.clinical_file import write_survival
from tcgn_mil.preprocessing.clinical import checks as survival_check
from tcgn_mil.preprocessing.clinical.figure import draw_survival
from tcgn_mil.preprocessing.clinical.reader import (
    ClinicalOptions,
    ClinicalTable,
    Dropped,
    read_clinical,
)
from tcgn_mil.text import duplicates
from tcgn_mil.types.outcomes import SurvivalTable

DROPPED_FILE, AGREEMENT_FILE = "dropped_patients.csv", "agreement.csv"


@dataclass(frozen=True)
class ClinicalSummary:
    """What was written: patients in all, dropped outcomes, one line for each thing to be told, agreement of sources."""

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
) -> ClinicalSummary:
    """Read the sources, check them, and write one table.

    Parameters
    ----------
    paths
        Tables; the first wins.
    out_path
        The .csv to write.
    layouts
        One for all, or one for each path.
    allow_unusual
        Write in spite of alarms about units and codings, which then are warnings.

    Raises
    ------
    InputError
        As :func:`read_clinical`; for an option that no table uses; for a unit or coding that the values speak against;
        or if nothing usable is left.
    """
    out_path = Path(out_path)
    if len(layouts) not in (1, len(paths)):
        raise InputError(
            f"{len(layouts)} formats for {len(paths)} files",
            fix="give --format once, or once a file",
        )
    each = list(layouts) * len(paths) if len(layouts) == 1 else layouts
    tables = [
        read_clinical(path, options, layout=layout)
        for path, layout in zip(paths, each, strict=True)
    ]
    _check_options_used(tables, options)
    compared = [survival_check.compare(first, second) for first, second in combinations(tables, 2)]
    agreement = pd.concat(compared) if compared else None
    summary = [] if agreement is None else survival_check.summarise(agreement)
    alarms = [alarm for table in tables for alarm in survival_check.alarms(table)]
    alarms += survival_check.disagreements(summary)
    if alarms and not allow_unusual:
        raise alarms[0]
    survival = _merged(tables)
    dropped = [lost for table in tables for lost in table.dropped]
    notes = [note for table in tables for note in (*survival_check.describe(table), *table.notes)]
    meta = {
        "sources": [_source(table) for table in tables],
        "dropped": {
            f"{name or 'covariate'}: {why}": count
            for (name, why), count in _counts(dropped).items()
        },
        "agreement": summary,
        "warnings": [str(alarm) for alarm in alarms],
        "notes": notes,
    }
    write_survival(out_path, survival, meta=meta)
    _write_beside(out_path, dropped, agreement)
    draw_survival(out_path.with_suffix(".png"), survival)
    patients = len({name for table in survival for name in table.patient_id})
    return ClinicalSummary(
        patients, len(dropped), tuple(notes), tuple(map(str, alarms)), tuple(summary)
    )


def _check_options_used(tables: Sequence[ClinicalTable], options: ClinicalOptions) -> None:
    """An option without effect is a misunderstanding."""
    names = [table.layout.name for table in tables]
    if (
        options.times or options.event_coding or options.event_values or options.entry
    ) and "columns" not in names:
        raise InputError(
            f"columns, unit or coding are declared, but the files are read as {', '.join(names)}, which states them",
            fix="leave those options out, or give --format columns",
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
    """One table for each endpoint, first source first."""
    outcomes = pd.concat(
        [table.outcomes for table in tables if len(table.outcomes)] or [tables[0].outcomes]
    )
    outcomes = outcomes.drop_duplicates(["patient_id", "endpoint"])
    if outcomes.empty:
        lost = _counts([row for table in tables for row in table.dropped])
        why = ", ".join(f"{reason} ({count})" for (_, reason), count in lost.most_common(3))
        raise InputError(
            f"no patient has a usable time and event: {why}",
            path=tables[0].path,
            fix="check the columns",
        )
    covariates = tables[0].covariates.replace("", pd.NA)
    for table in tables[1:]:
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
    """How a file was read, for the provenance."""
    layout = asdict(table.layout)
    layout["event_values"] = sorted(table.layout.event_values)
    layout["endpoints"] = [list(endpoint) for endpoint in table.layout.endpoints]
    return {"file": table.path.name, **layout}


def _counts(dropped: Sequence[Dropped]) -> Counter[tuple[str, str]]:
    """Reasons, without the values in them, and how often."""
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
