"""Clinical tables of several layouts, read into outcomes in days and covariates, one row a patient.

Rules. A row without a usable outcome is listed. Equal rows of a patient (several slides or samples) are one; where they
differ by at most a day and agree on the event, the first is kept; where they differ more, nothing says which is right
and the patient loses that endpoint. A covariate that differs keeps its first value. All of these are listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables import delimited as table_files
from tcgn_mil.io.tables import workbook as workbooks
from tcgn_mil.io.tables.schema import check_table
from tcgn_mil.preprocessing.clinical import layouts as schemas
from tcgn_mil.preprocessing.clinical.layouts import ClinicalLayout, EndpointColumns
from tcgn_mil.tcga_barcodes import patient_of
from tcgn_mil.text import duplicates

SAME_TIME_DAYS = 1.0
_KNOWN_ENDPOINTS = ("OS", "DSS", "DFI", "PFI")
_MONTH_SUFFIXES = {"OS": "", "DSS": "_dss", "PFI": "_pfi"}
_MOST_CENSORED_VALUES = 5


@dataclass(frozen=True)
class ClinicalOptions:
    """What a user declares about tables that do not say it themselves.

    Attributes
    ----------
    patient, entry
        Column names, for the layout ``columns``; `patient` for ``covariates`` too.
    times, events
        Column names, for the layout ``columns``, as many as `endpoints`.
    time_unit
        days, months or years.
    event_coding
        What a 1 means: ``event`` or ``censored``.
    event_values
        Instead of 0 and 1: cells that mean an event.
    month_days
        Days in a month: 30.44 (PORPOISE) or 30 (SurvPath).
    endpoints
        For ``columns`` their names; for other layouts those wanted, all if empty.
    covariates
        Columns to keep as given.
    sheet
        Of a workbook.
    """

    patient: str | None = None
    times: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    entry: str | None = None
    time_unit: str | None = None
    event_coding: str | None = None
    event_values: tuple[str, ...] = ()
    month_days: float | None = None
    endpoints: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    sheet: str = schemas.CDR_SHEET


class Dropped(NamedTuple):
    """A row of dropped_patients.csv: a patient, endpoint or value that could not be used as it stands."""

    patient_id: str
    endpoint: str
    source: str
    rows: str
    reason: str
    kept: str = ""


@dataclass(frozen=True, eq=False)
class ClinicalTable:
    """A table as read.

    ``outcomes``: patient_id, endpoint, time_days, event (bool), entry_days, one row for each patient and endpoint;
    ``covariates``: text, index patient_id, missing ones empty.
    """

    path: Path
    layout: ClinicalLayout
    outcomes: pd.DataFrame
    covariates: pd.DataFrame
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


def read_clinical(
    path: str | Path, options: ClinicalOptions, *, layout: str = "auto"
) -> ClinicalTable:
    """Read one table.

    Parameters
    ----------
    path
        CSV or TSV, also .gz or .zip, or .xlsx.
    options
        What the user declares.
    layout
        ``auto`` tells TCGA-CDR and Xena by their columns, and named columns by their being there; a month's length is
        never guessed.

    Raises
    ------
    InputError
        For an unreadable table, absent columns, an undeclared unit or coding, or cells that do not fit the schema.
    """
    path = Path(path)
    if layout not in schemas.LAYOUTS:
        raise InputError(
            f"unknown format {layout!r}", fix=f"choose one of {', '.join(schemas.LAYOUTS)}"
        )
    workbook = path.suffix.lower() == workbooks.SUFFIX
    sheet = workbooks.read_sheet(path, options.sheet) if workbook else None
    names = table_files.column_names(path) if sheet is None else list(sheet.columns)
    found = layout_of(path, names, options, layout)
    schemas.need_columns(names, found.columns, path)
    if sheet is None:
        table = table_files.read_text_columns(
            path, [names.index(column) for column in found.columns]
        )
    else:
        table = sheet[found.columns]
        table = table[(table != "").any(axis=1)]
    if table.empty:
        raise InputError(
            "has no row with a patient", path=path, fix="check the sheet and its columns"
        )
    check_table(table, schemas.schema_of(found), path=path)
    return _clinical_table(path, table, found)


def _clinical_table(path: Path, table: pd.DataFrame, layout: ClinicalLayout) -> ClinicalTable:
    names = table[layout.patient]
    patients = names.map({name: patient_of(name) for name in names.unique()})
    notes: list[str] = []
    outcomes, dropped = [], []
    for endpoint in layout.endpoints:
        kept, lost = _outcomes(table, patients, layout, endpoint, path.name)
        outcomes.append(kept)
        dropped += lost
        notes += _note_event_values(table[endpoint.event], layout, endpoint, path)
    covariates, differing = _covariates(table, patients, layout, path.name)
    empty = pd.DataFrame(columns=["patient_id", "endpoint", "time_days", "event", "entry_days"])
    return ClinicalTable(
        path,
        layout,
        pd.concat(outcomes, ignore_index=True) if outcomes else empty,
        covariates,
        (*dropped, *differing),
        tuple(notes),
    )


def layout_of(
    path: Path, names: Sequence[str], options: ClinicalOptions, layout: str
) -> ClinicalLayout:
    """The table's layout, as declared or told by its columns."""
    if layout == "auto":
        layout = _guess(path, names, options)
    covariates = tuple(name for name in options.covariates if name in names)
    if layout == "columns":
        return _named_columns(path, options, covariates)
    if layout == "covariates":
        known = (options.patient, *schemas.PATIENT_COLUMNS)
        patient = next(
            (name for name in known if name in names), options.patient or schemas.PATIENT_COLUMNS[0]
        )
        return ClinicalLayout(layout, patient, covariates=covariates)
    if layout in ("tcga-cdr", "xena"):
        patient = "bcr_patient_barcode" if layout == "tcga-cdr" else "_PATIENT"
        endpoints = [EndpointColumns(name, f"{name}.time", name) for name in _KNOWN_ENDPOINTS]
        return ClinicalLayout(
            layout, patient, _wanted(path, names, endpoints, options), covariates=covariates
        )
    month = schemas.PORPOISE_MONTH if layout == "porpoise" else schemas.SURVPATH_MONTH
    endpoints = [
        EndpointColumns(name, f"survival_months{suffix}", f"censorship{suffix}")
        for name, suffix in _MONTH_SUFFIXES.items()
    ]
    return ClinicalLayout(
        layout,
        "case_id",
        _wanted(path, names, endpoints, options),
        unit_days=month,
        unit="months",
        coding="censored",
        covariates=covariates,
    )


def _guess(path: Path, names: Sequence[str], options: ClinicalOptions) -> str:
    columns = set(names)
    if options.times and {options.patient, *options.times} <= columns:
        return "columns"
    if {"bcr_patient_barcode", "OS.time"} <= columns:
        return "tcga-cdr"
    if "_PATIENT" in columns and any(f"{name}.time" in columns for name in _KNOWN_ENDPOINTS):
        return "xena"
    if {"survival_months", "censorship"} <= columns:
        months = {schemas.PORPOISE_MONTH: "porpoise", schemas.SURVPATH_MONTH: "survpath"}
        if options.month_days in months:
            return months[options.month_days]
        raise InputError(
            "has survival_months, whose length its columns do not say",
            path=path,
            fix="declare --months 30.44 (or --format porpoise), or --months 30 (or --format survpath)",
        )
    if columns & set(options.covariates) and columns & {options.patient, *schemas.PATIENT_COLUMNS}:
        return "covariates"
    raise InputError(
        "is no table of a known layout",
        path=path,
        fix="name --patient-column, --time-column and --event-column, or give --format",
    )


def _wanted(
    path: Path, names: Sequence[str], known: Sequence[EndpointColumns], options: ClinicalOptions
) -> tuple[EndpointColumns, ...]:
    """Endpoints asked for, or all that the table has."""
    there = [endpoint for endpoint in known if endpoint.time in names and endpoint.event in names]
    chosen = [
        endpoint
        for endpoint in there
        if not options.endpoints or endpoint.name in options.endpoints
    ]
    if not chosen:
        has = ", ".join(endpoint.name for endpoint in there) or "none"
        wanted = ", ".join(options.endpoints or [endpoint.time for endpoint in known])
        raise InputError(
            f"has no endpoint {wanted}",
            path=path,
            fix=f"it has {has}; check --endpoint and --format",
        )
    return tuple(chosen)


def _named_columns(
    path: Path, options: ClinicalOptions, covariates: tuple[str, ...]
) -> ClinicalLayout:
    for value, option, meaning in (
        (options.patient, "--patient-column", ""),
        (options.times, "--time-column", ""),
        (options.events, "--event-column", ""),
        (options.time_unit, "--time-unit", f" ({', '.join(schemas.UNIT_DAYS)})"),
        (
            options.event_coding or options.event_values,
            "--event-coding",
            " (event: 1 = event; censored: 1 = censored), or --event-values for text such as dead,deceased",
        ),
        (options.endpoints, "--endpoint", " (what the times run to, e.g. OS)"),
    ):
        if not value:
            raise InputError(
                "the file does not say how it is to be read",
                path=path,
                fix=f"declare {option}{meaning}",
            )
    if options.time_unit not in schemas.UNIT_DAYS or options.event_coding not in (
        None,
        *schemas.CODINGS,
    ):
        wrong = (
            options.time_unit
            if options.time_unit not in schemas.UNIT_DAYS
            else options.event_coding
        )
        known = f"units are {', '.join(schemas.UNIT_DAYS)}; codings {', '.join(schemas.CODINGS)}"
        raise InputError(f"unknown unit or coding {wrong!r}", fix=known)
    if options.event_coding and options.event_values:
        raise InputError(
            "--event-coding and --event-values both given",
            fix="0 and 1 need the first, text the second",
        )
    counts = [len(names) for names in (options.endpoints, options.times, options.events)]
    if len(set(counts)) > 1 or duplicates(options.endpoints):
        raise InputError(
            f"{counts[0]} endpoints, {counts[1]} time columns and {counts[2]} event columns do not pair up",
            path=path,
            fix="give --endpoint, --time-column and --event-column once for each endpoint, in one order",
        )
    assert options.patient is not None
    month = options.month_days if options.time_unit == "months" else None
    return ClinicalLayout(
        "columns",
        options.patient,
        tuple(map(EndpointColumns, options.endpoints, options.times, options.events)),
        unit_days=month or schemas.UNIT_DAYS[options.time_unit],
        unit=options.time_unit,
        coding=options.event_coding or "values",
        event_values=frozenset(
            schemas.plain(pd.Series(options.event_values, dtype=str)).str.strip()
        ),
        entry=options.entry,
        covariates=covariates,
    )


def _outcomes(
    table: pd.DataFrame,
    patients: pd.Series,
    layout: ClinicalLayout,
    endpoint: EndpointColumns,
    source: str,
) -> tuple[pd.DataFrame, list[Dropped]]:
    """Usable outcomes, one a patient, and what was lost on the way."""
    entry = 0.0 if layout.entry is None else layout.days(table[layout.entry])
    rows = pd.DataFrame(
        {
            "patient_id": patients,
            "endpoint": endpoint.name,
            "time_days": layout.days(table[endpoint.time]),
            "event": layout.events(table[endpoint.event]),
            "entry_days": entry,
            "row": table.index.astype(str),
        }
    )
    reason = _unusable(rows, table, layout, endpoint)
    usable, lost = rows[reason == ""], rows[reason != ""].assign(reason=reason[reason != ""])
    kept, conflicts = _one_a_patient(usable, endpoint.name, source)
    first_row = kept.set_index("patient_id")["row"]
    dropped = [
        Dropped(
            row.patient_id,
            endpoint.name,
            source,
            row.row,
            row.reason,
            f"row {first_row[row.patient_id]}" if row.patient_id in first_row.index else "",
        )
        for row in lost.drop_duplicates(["patient_id", "reason"]).itertuples()
    ]
    return kept.drop(columns="row").astype({"event": bool}), dropped + conflicts


def _unusable(
    rows: pd.DataFrame, table: pd.DataFrame, layout: ClinicalLayout, endpoint: EndpointColumns
) -> pd.Series:
    """Why each row has no outcome, empty where it has."""
    time, event, entry = rows["time_days"], rows["event"].isna(), rows["entry_days"]
    said_time, said_event = (_as_said(table[column]) for column in (endpoint.time, endpoint.event))
    said_entry = _as_said(table[layout.entry]) if layout.entry is not None else ""
    reasons = [
        (time.isna() & event, "no time and no event"),
        (time.isna(), "no time" + said_time),
        (event, "no event" + said_event),
        (~np.isfinite(time), "infinite time"),
        (time < 0, "negative time" + said_time),
        (time == 0, "time of zero"),
        (~np.isfinite(entry), "no entry time" + said_entry),
        (
            (entry < 0) | (entry >= time),
            "entry" + said_entry + " not between 0 and the end of follow-up",
        ),
    ]
    found = pd.Series("", index=rows.index, dtype=object)
    for wrong, why in reversed(reasons):
        found = found.mask(wrong.astype(bool), why)
    return found


def _as_said(cells: pd.Series) -> pd.Series:
    """`` (cell)``, empty where the cell is."""
    return (" (" + cells + ")").where(cells != "", "")


def _one_a_patient(
    usable: pd.DataFrame, endpoint: str, source: str
) -> tuple[pd.DataFrame, list[Dropped]]:
    """The first row of each patient whose rows agree; those that differ are listed."""
    distinct = usable.drop_duplicates(["patient_id", "time_days", "event", "entry_days"])
    several = distinct[distinct.duplicated("patient_id", keep=False)]
    conflicts, refused = [], []
    for patient, rows in several.groupby("patient_id", sort=False):
        spread = max(np.ptp(rows["time_days"]), np.ptp(rows["entry_days"]))
        close = spread <= SAME_TIME_DAYS and rows["event"].nunique() == 1
        values = ", ".join(
            f"{row.time_days:g} d {'event' if row.event else 'censored'}"
            for row in rows.head(4).itertuples()
        )
        why = f"{len(rows)} rows differ{' by at most a day' if close else ''}: {values}"
        kept = f"row {rows['row'].iloc[0]}, the first" if close else ""
        conflicts.append(
            Dropped(str(patient), endpoint, source, " ".join(rows["row"].head(4)), why, kept)
        )
        refused += [] if close else [patient]
    first = distinct.drop_duplicates("patient_id")
    return first[~first["patient_id"].isin(refused)], conflicts


def _covariates(
    table: pd.DataFrame, patients: pd.Series, layout: ClinicalLayout, source: str
) -> tuple[pd.DataFrame, list[Dropped]]:
    """First value that is not missing of each covariate and patient; those that differ are listed."""
    kept, differing = {}, []
    for name in layout.covariates:
        cells = table[name]
        given = pd.DataFrame({"patient": patients, "value": cells, "row": table.index.astype(str)})
        given = given[~schemas.is_missing(cells)].drop_duplicates(["patient", "value"])
        kept[name] = given.drop_duplicates("patient").set_index("patient")["value"]
        several = given[given.duplicated("patient", keep=False)]
        for patient, rows in several.groupby("patient", sort=False):
            values = list(rows["value"])
            differing.append(
                Dropped(
                    str(patient),
                    "",
                    source,
                    " ".join(rows["row"].head(4)),
                    f"{name} differs: {', '.join(values[:4])}",
                    f"{values[0]}, the first",
                )
            )
    index = pd.Index(patients.drop_duplicates(), name="patient_id")
    frame = pd.DataFrame(
        {name: values.reindex(index) for name, values in kept.items()}, index=index
    )
    return frame.fillna(""), differing


def _note_event_values(
    cells: pd.Series, layout: ClinicalLayout, endpoint: EndpointColumns, path: Path
) -> list[str]:
    """What text was taken for an event and what not; an error where that cannot be right."""
    if not layout.event_values:
        return []
    counts = cells[~schemas.is_missing(cells)].value_counts()
    event = schemas.plain(pd.Series(counts.index, dtype=str)).isin(layout.event_values).to_numpy()
    others = counts[~event]
    if len(others) > _MOST_CENSORED_VALUES or not event.any():
        raise InputError(
            f"column {endpoint.event}: {len(others)} values besides {', '.join(sorted(layout.event_values))}, e.g."
            f" {', '.join(map(str, others.index[:3]))}",
            path=path,
            fix="name all values of an event with --event-values; the others count as censored",
        )
    seen, rest = (
        ", ".join(f"{value} {count}" for value, count in part.items())
        for part in (counts[event], others)
    )
    return [f"{endpoint.name}: event: {seen}; censored: {rest or 'none'}"]
