"""Read a clinical table into outcomes in days and covariates, one row for each patient."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.tables import delimited, workbook
from tcgn_mil.io.tables.decimal_mark import commas_note, with_points
from tcgn_mil.io.tables.schema import check_table
from tcgn_mil.io.tables.text_numbers import MISSING
from tcgn_mil.patient_rows import is_normal
from tcgn_mil.preprocessing.clinical.detect_layout import AUTO, layout_of
from tcgn_mil.preprocessing.clinical.layouts import (
    ClinicalLayout,
    EndpointColumns,
    is_missing,
    means_event,
    need_columns,
    schema_of,
)
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.outcomes import (
    Dropped,
    LostTimes,
    first_covariates,
    lost_times,
    usable_outcomes,
)
from tcgn_mil.tcga_barcodes import patient_of
from tcgn_mil.text import counted

# A column of text with more values than this, besides those that mean an event, is taken for a
# wrong column or an incomplete list of event values.
_MAX_CENSORED_VALUES = 5


@dataclass(frozen=True, eq=False)
class ClinicalTable:
    """A clinical table as read.

    Attributes
    ----------
    path
        The file.
    layout
        The layout that it was read as.
    outcomes
        Columns patient_id, endpoint, time_days, event (bool) and entry_days, one row for each
        patient and endpoint.
    covariates
        Text, indexed by patient_id; missing values are empty.
    dropped
        Outcomes and covariates that were not used as they are.
    notes
        Messages that are printed for the user.
    lost_times
        For each endpoint, how many patients with and without an event have no time.
    columns
        Names of all columns of the file.
    """

    path: Path
    layout: ClinicalLayout
    outcomes: pd.DataFrame
    covariates: pd.DataFrame
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    lost_times: tuple[LostTimes, ...] = ()
    columns: tuple[str, ...] = ()


@reads("a clinical table", fix="check the file, and copy it again")
def read_clinical(
    path: str | Path, options: ClinicalOptions, *, requested_layout: str = AUTO
) -> ClinicalTable:
    """Read one clinical table.

    Parameters
    ----------
    path
        CSV or TSV, also .gz or .zip, Parquet, or an Excel workbook (.xlsx).
    options
        Facts that the user declares about the table.
    requested_layout
        A key of :data:`~tcgn_mil.preprocessing.clinical.detect_layout.CLINICAL_LAYOUTS`, or
        ``auto`` to judge the layout by the columns. The length of a month is never guessed.

    Returns
    -------
    ClinicalTable
        Outcomes in days, covariates, and what was dropped.

    Raises
    ------
    InputError
        If the table cannot be read, a column is missing, the unit or the coding is not declared, or
        a cell does not fit its column.

    Examples
    --------
    >>> import tempfile
    >>> text = "case_id,survival_months,censorship\\nTCGA-A1-A0SB,10,0\\nTCGA-A1-A0SD,20,1\\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "clinical.csv")
    ...     _ = path.write_text(text)
    ...     table = read_clinical(path, ClinicalOptions(month_days=30))
    >>> table.layout.name  # in this layout 0 means that the patient died
    'survpath'
    >>> table.outcomes[["patient_id", "time_days", "event"]]
         patient_id  time_days  event
    0  TCGA-A1-A0SB      300.0   True
    1  TCGA-A1-A0SD      600.0  False
    """
    path = Path(path)
    sheet = None
    if path.suffix.lower() == workbook.SUFFIX:
        sheet = workbook.read_sheet(path, options.sheet)
    names = delimited.column_names(path) if sheet is None else list(sheet.columns)
    layout = layout_of(path, names, options, requested_layout)
    need_columns(names, layout.columns, path)
    if sheet is None:
        positions = [names.index(column) for column in layout.columns]
        table = delimited.read_text_columns(path, positions)
        table, with_commas = _with_decimal_points(table, layout, path)
    else:
        with_commas = []
        table = sheet[layout.columns]
        table = table[(table != "").any(axis=1)]
    # TCGA's biotab files repeat the header in two further rows, once in terms of a dictionary.
    cells = table[layout.patient]
    table = table[~(cells.isin(layout.columns) | cells.str.startswith("CDE_ID:"))]
    if table.empty:
        raise InputError(
            "has no row with a patient", path=path, fix="check the sheet and its columns"
        )
    check_table(table, schema_of(layout), path=path)
    read = _clinical_table(path, table, layout)
    notes = [f"{path.name}: {commas_note(with_commas)}"] if with_commas else []
    return dataclasses.replace(read, columns=tuple(names), notes=(*notes, *read.notes))


def _with_decimal_points(
    table: pd.DataFrame, layout: ClinicalLayout, path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Write decimal points in times and covariates, by the rule for all tables."""
    numbers = table.drop(columns=layout.patient)
    numbers, names = with_points(numbers, delimited.separator_of(path), MISSING)
    return table.assign(**{name: numbers[name] for name in names}), names


def of_cohort(table: ClinicalTable, patients: Collection[str]) -> tuple[ClinicalTable, str]:
    """Keep the patients of a cohort.

    Parameters
    ----------
    table
        The table, perhaps of many cohorts.
    patients
        Names of the patients of the cohort.

    Returns
    -------
    The table without the other patients, and a sentence that counts them; empty if there are none.

    Raises
    ------
    InputError
        If the table has none of the patients.
    """
    named = table.covariates.index
    inside = named.isin(list(patients))
    if not inside.any():
        raise InputError(
            f"has none of the {len(patients)} patients of the slides: its first patient is"
            f" {named[0]}, the first one of the slides is {next(iter(patients))}",
            path=table.path,
            fix="check --slides and the column of the patients",
        )
    kept = dataclasses.replace(
        table,
        outcomes=table.outcomes[table.outcomes["patient_id"].isin(list(patients))],
        covariates=table.covariates[inside],
        dropped=tuple(row for row in table.dropped if row.patient_id in patients),
    )
    others = int((~inside).sum())
    note = f"{table.path.name}: {counted(others, 'patient')} of other cohorts left out"
    return kept, note if others else ""


def _clinical_table(path: Path, table: pd.DataFrame, layout: ClinicalLayout) -> ClinicalTable:
    notes: list[str] = []
    table = _without_normals(table, layout.patient, path, notes)
    names = table[layout.patient]
    patients = names.map({name: patient_of(name) for name in names.unique()})
    outcomes, dropped = [], []
    for endpoint in layout.endpoints:
        kept, lost = usable_outcomes(table, patients, layout, endpoint, path.name)
        outcomes.append(kept)
        dropped += lost
        notes += _note_event_values(table[endpoint.event], layout, endpoint, path)
    covariates, differing = first_covariates(table, patients, layout, path.name)
    empty = pd.DataFrame(columns=["patient_id", "endpoint", "time_days", "event", "entry_days"])
    return ClinicalTable(
        path,
        layout,
        pd.concat(outcomes, ignore_index=True) if outcomes else empty,
        covariates,
        (*dropped, *differing),
        tuple(notes),
        tuple(lost_times(table, patients, layout, endpoint) for endpoint in layout.endpoints),
    )


def _without_normals(
    table: pd.DataFrame, column: str, path: Path, notes: list[str]
) -> pd.DataFrame:
    """Remove the rows whose name states normal tissue or a control, with a note."""
    normal = table[column].map({name: is_normal(name) for name in table[column].unique()})
    if normal.all():
        raise InputError(
            f"column {column} names only samples of normal tissue, for example"
            f" {table[column].iloc[0]}",
            path=path,
            fix="give the rows of the patients, or of their tumours",
        )
    if normal.any():
        notes.append(
            f"{path.name}: {counted(int(normal.sum()), 'row')} of normal tissue or controls left"
            f" out, for example {table.loc[normal, column].iloc[0]}"
        )
    return table[~normal.astype(bool)]


def _note_event_values(
    cells: pd.Series, layout: ClinicalLayout, endpoint: EndpointColumns, path: Path
) -> list[str]:
    """Return a line with the text taken for an event and the text taken for none.

    Raises
    ------
    InputError
        If no cell means an event, or too many different ones mean none.
    """
    if not layout.event_values:
        return []
    counts = cells[~is_missing(cells)].value_counts()
    event = means_event(pd.Series(counts.index, dtype=str), layout.event_values).to_numpy()
    others = counts[~event]
    if len(others) > _MAX_CENSORED_VALUES or not event.any():
        raise InputError(
            f"column {endpoint.event}: {len(others)} values besides"
            f" {', '.join(sorted(layout.event_values))}, for example"
            f" {', '.join(map(str, others.index[:3]))}",
            path=path,
            fix="give all values that mean an event to --event-values; others count as censored",
        )
    of_event, of_censored = (
        ", ".join(f"{value} {count}" for value, count in part.items())
        for part in (counts[event], others)
    )
    return [f"{endpoint.name}: event: {of_event}; censored: {of_censored or 'none'}"]
