"""Tell the layout of a clinical table by its columns.

Layouts are registered in :data:`CLINICAL_LAYOUTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.clinical.layouts import (
    CODINGS,
    PORPOISE_MONTH,
    SURVPATH_MONTH,
    UNIT_DAYS,
    ClinicalLayout,
    EndpointColumns,
    plain,
)
from tcgn_mil.preprocessing.clinical.named_columns import check_named_columns
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.portal_layouts import (
    cbioportal,
    gdc_portal,
    is_cbioportal,
    is_gdc_portal,
)
from tcgn_mil.registry import add_entry
from tcgn_mil.text import duplicates, preview

AUTO = "auto"
# In GDC's tables case_id is a UUID and not a name that joins with a slide, so it comes last.
PATIENT_COLUMNS = (
    "patient_id",
    "bcr_patient_barcode",
    "_PATIENT",
    "PATIENT_ID",
    "cases.submitter_id",
    "case_submitter_id",
    "submitter_id",
    "case_id",
)
_CDR_ENDPOINTS = tuple(
    EndpointColumns(name, f"{name}.time", name) for name in ("OS", "DSS", "DFI", "PFI")
)
_MONTH_ENDPOINTS = tuple(
    EndpointColumns(name, f"survival_months{suffix}", f"censorship{suffix}")
    for name, suffix in (("OS", ""), ("DSS", "_dss"), ("PFI", "_pfi"))
)


@dataclass(frozen=True)
class TableHeader:
    """The path of a table, the names of its columns, and what the user declares about it."""

    path: Path
    columns: Sequence[str]
    options: ClinicalOptions

    def covariates(self) -> tuple[str, ...]:
        """Return the covariates asked for that this table has."""
        return tuple(name for name in self.options.covariates if name in self.columns)

    def endpoints(self, layout: Sequence[EndpointColumns]) -> tuple[EndpointColumns, ...]:
        """Return the endpoints of a layout that the table has and that are asked for."""
        present = [
            endpoint
            for endpoint in layout
            if endpoint.time in self.columns and endpoint.event in self.columns
        ]
        wanted = self.options.endpoints
        chosen = tuple(endpoint for endpoint in present if not wanted or endpoint.name in wanted)
        if not chosen:
            has = ", ".join(endpoint.name for endpoint in present) or "none"
            absent = ", ".join(wanted or [endpoint.time for endpoint in layout])
            raise InputError(
                f"has no endpoint {absent}",
                path=self.path,
                fix=f"it has {has}; check --endpoint and --format",
            )
        return chosen


@dataclass(frozen=True)
class LayoutReader:
    """A layout of clinical tables.

    Attributes
    ----------
    name
        Name for ``--format``.
    is_layout
        Tells whether a table is of this layout. It may raise InputError for a table that is of
        this kind but does not say enough.
    layout_of
        Returns the columns of a table of this layout.
    """

    name: str
    is_layout: Callable[[TableHeader], bool]
    layout_of: Callable[[TableHeader], ClinicalLayout]


CLINICAL_LAYOUTS: dict[str, LayoutReader] = {}


def register_clinical_layout(reader: LayoutReader) -> None:
    """Add a layout of clinical tables.

    With ``auto``, layouts are tried in reverse order of registration. A name that is taken raises
    InputError.
    """
    add_entry(CLINICAL_LAYOUTS, reader.name, reader, what="layout of clinical tables")


def layout_of(
    path: Path, columns: Sequence[str], options: ClinicalOptions, layout: str
) -> ClinicalLayout:
    """Return the layout of a table.

    Parameters
    ----------
    path
        The table, for messages.
    columns
        Its column names.
    options
        Facts that the user declares.
    layout
        A key of :data:`CLINICAL_LAYOUTS`, or ``auto`` to tell the layout by the columns.

    Raises
    ------
    InputError
        If the layout is unknown or cannot be told, or if a declaration is missing or contradictory.
    """
    if layout not in (AUTO, *CLINICAL_LAYOUTS):
        raise InputError(
            f"unknown format {layout!r}",
            fix=f"choose one of {', '.join((AUTO, *CLINICAL_LAYOUTS))}",
        )
    header = TableHeader(path, columns, options)
    if layout != AUTO:
        return CLINICAL_LAYOUTS[layout].layout_of(header)
    for reader in reversed(CLINICAL_LAYOUTS.values()):
        if reader.is_layout(header):
            return reader.layout_of(header)
    check_named_columns(path, columns, options)
    raise InputError(
        "is not a table of a known layout: none of its columns is known as the time or event of an"
        f" endpoint (it has {preview(columns, most=8)})",
        path=path,
        fix="name --patient-column, --time-column and --event-column, or give --format",
    )


def _is_covariates(header: TableHeader) -> bool:
    columns, patients = set(header.columns), {header.options.patient, *PATIENT_COLUMNS}
    return bool(columns & set(header.options.covariates) and columns & patients)


def _covariates(header: TableHeader) -> ClinicalLayout:
    names = (header.options.patient, *PATIENT_COLUMNS)
    patient = next((name for name in names if name in header.columns), None)
    return ClinicalLayout(
        "covariates",
        patient or header.options.patient or PATIENT_COLUMNS[0],
        covariates=header.covariates(),
    )


def _has_months(header: TableHeader) -> bool:
    return {"survival_months", "censorship"} <= set(header.columns)


def _is_survpath(header: TableHeader) -> bool:
    return _has_months(header) and header.options.month_days == SURVPATH_MONTH


def _is_porpoise(header: TableHeader) -> bool:
    """Return whether the columns are PORPOISE's, which SurvPath has as well, given the month.

    The two cohorts convert days to months differently, so a wrong guess would shift all times by
    1.5 %. The length is therefore asked for.
    """
    if not _has_months(header):
        return False
    if header.options.month_days == PORPOISE_MONTH:
        return True
    raise InputError(
        "has survival_months, but its columns do not give the length of a month",
        path=header.path,
        fix="declare --months 30.44 (or --format porpoise), or --months 30 (or --format survpath)",
    )


def _in_months(name: str, month_days: float) -> Callable[[TableHeader], ClinicalLayout]:
    def build(header: TableHeader) -> ClinicalLayout:
        return ClinicalLayout(
            name,
            "case_id",
            header.endpoints(_MONTH_ENDPOINTS),
            unit_days=month_days,
            unit="months",
            coding="censored",
            covariates=header.covariates(),
        )

    return build


def _is_xena(header: TableHeader) -> bool:
    return "_PATIENT" in header.columns and any(
        endpoint.time in header.columns for endpoint in _CDR_ENDPOINTS
    )


def _is_gdc(header: TableHeader) -> bool:
    """Return whether the table is one that ``tcgn-mil download gdc`` wrote."""
    return {"case_submitter_id", "OS.time"} <= set(header.columns)


def _is_cdr(header: TableHeader) -> bool:
    return {"bcr_patient_barcode", "OS.time"} <= set(header.columns)


def _in_days(name: str, patient: str) -> Callable[[TableHeader], ClinicalLayout]:
    def build(header: TableHeader) -> ClinicalLayout:
        endpoints = header.endpoints(_CDR_ENDPOINTS)
        return ClinicalLayout(name, patient, endpoints, covariates=header.covariates())

    return build


def _is_named_columns(header: TableHeader) -> bool:
    options = header.options
    return bool(options.times) and {options.patient, *options.times} <= set(header.columns)


def _named_columns(header: TableHeader) -> ClinicalLayout:
    """Return the layout of a table whose columns, unit and coding the user declares."""
    path, options = header.path, header.options
    _check_declared(path, options)
    for option, value, choices in (
        ("--time-unit", options.time_unit, tuple(UNIT_DAYS)),
        ("--event-coding", options.event_coding, (None, *CODINGS)),
    ):
        if value not in choices:
            names = ", ".join(filter(None, choices))
            raise InputError(f"{option} is {value!r}", fix=f"choose one of {names}")
    if options.event_coding and options.event_values:
        raise InputError(
            "--event-coding and --event-values are both given",
            fix="give --event-coding for 0 and 1, or --event-values for text",
        )
    _check_pairs(path, options)
    assert options.patient is not None  # _check_declared refuses tables without these
    assert options.time_unit is not None
    month = options.month_days if options.time_unit == "months" else None
    return ClinicalLayout(
        "columns",
        options.patient,
        tuple(
            map(
                EndpointColumns,
                options.endpoints,
                options.times,
                options.events,
                options.censored_times or [""] * len(options.endpoints),
            )
        ),
        unit_days=month or UNIT_DAYS[options.time_unit],
        unit=options.time_unit,
        coding=options.event_coding or "values",
        event_values=frozenset(plain(pd.Series(options.event_values, dtype=str)).str.strip()),
        entry=options.entry,
        covariates=header.covariates(),
    )


def _check_pairs(path: Path, options: ClinicalOptions) -> None:
    """Raise InputError unless every endpoint has its columns."""
    counts = [len(names) for names in (options.endpoints, options.times, options.events)]
    if len(set(counts)) > 1 or duplicates(options.endpoints):
        several_times = (
            "; if the living have their times in a column of their own, such as"
            " days_to_last_follow_up, give that one to --censored-time-column"
            if counts[1] > counts[0]
            else ""
        )
        raise InputError(
            f"{counts[0]} endpoints, {counts[1]} time columns and {counts[2]} event columns do not"
            " pair up",
            path=path,
            fix="give --endpoint, --time-column and --event-column once for each endpoint, in the"
            f" same order{several_times}",
        )
    if options.censored_times and len(options.censored_times) != counts[0]:
        raise InputError(
            f"{len(options.censored_times)} columns of --censored-time-column do not pair up with"
            f" {counts[0]} endpoints",
            path=path,
            fix="give --censored-time-column once for each --endpoint, in the same order",
        )


def _check_declared(path: Path, options: ClinicalOptions) -> None:
    """Raise InputError if a declaration that named columns need is missing."""
    coding = (
        "--event-coding (event: 1 = event; censored: 1 = censored), or --event-values for text"
        " such as dead,deceased"
    )
    declarations = (
        (options.patient, "the column of the patients", "--patient-column"),
        (options.times, "the column of the times", "--time-column"),
        (options.events, "the column of the events", "--event-column"),
        (options.time_unit, "the unit of the times", f"--time-unit ({', '.join(UNIT_DAYS)})"),
        (options.event_coding or options.event_values, "the coding of the events", coding),
        (options.endpoints, "the endpoint", "--endpoint (the endpoint of the times, such as OS)"),
    )
    # All that is missing is asked for at once.
    if missing := [(what, option) for value, what, option in declarations if not value]:
        raise InputError(
            f"the file does not say {' and '.join(what for what, _ in missing)}",
            path=path,
            fix=f"give {' and '.join(option for _, option in missing)}",
        )


for _reader in (
    LayoutReader("covariates", _is_covariates, _covariates),
    LayoutReader("porpoise", _is_porpoise, _in_months("porpoise", PORPOISE_MONTH)),
    LayoutReader("survpath", _is_survpath, _in_months("survpath", SURVPATH_MONTH)),
    LayoutReader("xena", _is_xena, _in_days("xena", "_PATIENT")),
    LayoutReader("cbioportal", is_cbioportal, cbioportal),
    LayoutReader("gdc-portal", is_gdc_portal, gdc_portal),
    LayoutReader("gdc", _is_gdc, _in_days("gdc", "case_submitter_id")),
    LayoutReader("tcga-cdr", _is_cdr, _in_days("tcga-cdr", "bcr_patient_barcode")),
    LayoutReader("columns", _is_named_columns, _named_columns),
):
    register_clinical_layout(_reader)
