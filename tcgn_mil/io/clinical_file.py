"""Read and write clinical.csv, the survival times of patients for one or several endpoints.

The file is a wide CSV table that lifelines can read directly, with these columns:

- ``patient_id``;
- for each endpoint ``<name>_time_days`` and ``<name>_event`` (1 is an event, 0 is censored), both
  empty for a patient without this endpoint;
- ``entry_days`` if patients came under observation late (left truncation);
- covariates, unchanged.

Metadata and provenance are in a JSON file of the same name, clinical.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.atomic import write_csv, write_json
from tcgn_mil.patient_rows import choose_rows
from tcgn_mil.progress import tell
from tcgn_mil.provenance import provenance
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.outcomes import SurvivalTable

if TYPE_CHECKING:
    import pandas as pd

KIND = "clinical"
PATIENT, ENTRY = "patient_id", "entry_days"
TIME_SUFFIX, EVENT_SUFFIX = "_time_days", "_event"
_AGAIN = "make the file again with tcgn-mil clinical"


def write_survival(
    path: str | Path, tables: Sequence[SurvivalTable], *, meta: Mapping[str, Any]
) -> None:
    """Write endpoints side by side, with patients in alphabetical order.

    Parameters
    ----------
    path
        File to write; its name ends in .csv.
    tables
        One table for each endpoint.
    meta
        Values to add to the metadata in the JSON file.

    Raises
    ------
    InputError
        If there is no endpoint or two have the same name; a covariate has the name of another
        column; only some endpoints have entry times; or a patient has different entry times or
        covariates in two endpoints.
    """
    import pandas as pd

    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise InputError("is not named .csv", path=path, fix="choose a file name that ends in .csv")
    endpoints = [table.endpoint for table in tables]
    if not endpoints or duplicates(endpoints):
        raise InputError(
            f"the endpoints {endpoints} cannot be written, because each needs a name of its own",
            path=path,
            fix="give at least one endpoint, and each endpoint once",
        )
    covariates = list(
        dict.fromkeys(column for table in tables for column in table.covariates.columns)
    )
    columns = [_outcome_columns(table) for table in tables]
    columns += _entry_column(tables, path)
    columns += [
        _merge_copies(
            [table.covariates[[name]] for table in tables if name in table.covariates.columns],
            path,
        )
        for name in covariates
    ]
    wide = pd.concat(columns, axis=1).sort_index().rename_axis(PATIENT)
    if repeated := duplicates([PATIENT, *wide.columns]):
        raise InputError(
            f"covariate {preview(repeated)} has the name of another column",
            path=path,
            fix="rename the covariate",
        )
    write_csv(path, wide, index=True, digits=10)
    counts = {
        table.endpoint: {"patients": len(table), "events": int(table.event.sum())}
        for table in tables
    }
    write_json(
        path.with_suffix(".json"),
        provenance(kind=KIND, endpoints=counts, covariates=covariates, **meta),
    )


def _outcome_columns(table: SurvivalTable) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            table.endpoint + TIME_SUFFIX: table.time_days,
            # Int64 keeps 0 and 1 as whole numbers when other patients have an empty cell.
            table.endpoint + EVENT_SUFFIX: pd.array(table.event.astype(int), dtype="Int64"),
        },
        index=pd.Index(table.patient_id),
    )


def _entry_column(tables: Sequence[SurvivalTable], path: Path) -> list[pd.DataFrame]:
    """Return the column of entry times in a list, or an empty list if no endpoint has them."""
    import pandas as pd

    copies = [
        pd.DataFrame({ENTRY: table.entry_days}, index=pd.Index(table.patient_id))
        for table in tables
        if table.entry_days is not None
    ]
    if copies and len(copies) != len(tables):
        raise InputError(
            "some endpoints have entry times and some have none",
            path=path,
            fix="give entry times for all endpoints",
        )
    return [_merge_copies(copies, path)] if copies else []


def _merge_copies(copies: Sequence[pd.DataFrame], path: Path) -> pd.DataFrame:
    """Merge the endpoints' copies of one column into one value for each patient."""
    import pandas as pd

    stacked = pd.concat(copies)
    stacked = stacked[~(stacked.reset_index().duplicated().to_numpy())]
    if repeated := duplicates(stacked.index):
        raise InputError(
            f"{stacked.columns[0]} of {preview(repeated)} differs between endpoints",
            path=path,
            fix="give the same value for all endpoints",
        )
    return stacked


@reads("survival of patients", fix="make the file again with tcgn-mil clinical")
def endpoints_of(path: str | Path) -> list[str]:
    """Return the names of the endpoints in a clinical.csv, in their order in the file."""
    return _endpoint_names(list(_read_wide(Path(path)).columns))


@reads("survival of patients", fix="make the file again with tcgn-mil clinical")
def read_survival(path: str | Path, *, endpoint: str = "OS") -> SurvivalTable:
    """Read one endpoint of a clinical.csv.

    Parameters
    ----------
    path
        The file that ``tcgn-mil clinical`` wrote. It may have been saved again by another program:
        with semicolons, with row numbers, with ``NA`` in empty cells, compressed, or as Parquet.
    endpoint
        Name of the endpoint, for example ``OS`` or ``PFI``.

    Returns
    -------
    SurvivalTable
        The patients that have this endpoint.

    Raises
    ------
    InputError
        If the file is missing or is not a table, or lacks the endpoint; if a patient has several
        rows or has a time without an event; if an event is not 0 or 1; or if a time is not finite
        and above 0.
    """
    path = Path(path)
    wide = _read_wide(path)
    wide = _one_row_each(wide, path)
    endpoints = _endpoint_names(list(wide.columns))
    if endpoint not in endpoints:
        raise InputError(
            f"has no endpoint {endpoint!r}; it has {preview(endpoints) or 'none'}",
            path=path,
            fix="choose one of its endpoints, or make the file again with tcgn-mil clinical",
        )
    time, event = (
        _numbers(wide, endpoint + suffix, path) for suffix in (TIME_SUFFIX, EVENT_SUFFIX)
    )
    incomplete = np.isnan(time) != np.isnan(event)
    not_binary = ~(np.isnan(event) | np.isin(event, (0, 1)))
    for wrong, problem in (
        (incomplete, "has a time or an event, not both"),
        (not_binary, "has an event other than 0 and 1"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"row {wide.index[row]}: {endpoint} of {wide[PATIENT].iloc[row]} {problem}",
                path=path,
                fix=_AGAIN,
            )
    present = ~np.isnan(time)
    entry = _numbers(wide, ENTRY, path)[present] if ENTRY in wide.columns else None
    other = {PATIENT, ENTRY}
    other |= {name + suffix for name in endpoints for suffix in (TIME_SUFFIX, EVENT_SUFFIX)}
    covariates = wide[present].set_index(PATIENT)[
        [column for column in wide.columns if column not in other]
    ]
    try:
        return SurvivalTable(
            endpoint,
            tuple(covariates.index),
            time[present],
            event[present].astype(bool),
            covariates,
            entry,
        )
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from error


def _read_wide(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise InputError("no such clinical table", path=path, fix="make it with tcgn-mil clinical")
    from tcgn_mil.io.tables.delimited import column_names, read_text_columns

    if PATIENT not in column_names(path):
        raise InputError(
            f"has no column {PATIENT}", path=path, fix="make it with tcgn-mil clinical"
        )
    cells = read_text_columns(path)
    if repeated := duplicates(cells.columns):
        raise InputError(
            f"has column {preview(repeated)} more than once",
            path=path,
            fix="rename or remove one of them",
        )
    # A program that saved the file again may have added the numbers of the rows, without a name.
    cells = cells.drop(columns=["", "Unnamed: 0"], errors="ignore")
    # Covariates keep their text: only an empty cell is missing, so that a stage called "NA" remains
    # a stage.
    columns = {name: cells[name].where(cells[name] != "", np.nan) for name in cells.columns}
    numeric = {
        name: pd.to_numeric(column, errors="coerce")
        for name, column in columns.items()
        if name != PATIENT
    }
    return pd.DataFrame(
        {
            name: numeric[name]
            if name in numeric and numeric[name].notna().equals(column.notna())
            else column
            for name, column in columns.items()
        },
        index=cells.index,
    ).fillna({PATIENT: ""})


def _one_row_each(wide: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Keep one row for each patient, by the rule for all tables of patients."""
    # A row without an outcome may name no patient. Any other such row is refused by SurvivalTable.
    unnamed = wide[wide[PATIENT] == ""]
    wide = wide[wide[PATIENT] != ""]
    values = wide.drop(columns=PATIENT)
    chosen = choose_rows(
        list(wide[PATIENT]),
        lambda first, second: values.iloc[first].equals(values.iloc[second]),
        path,
    )
    for note in chosen.notes:
        tell(note)
    import pandas as pd

    return pd.concat([wide.iloc[chosen.rows].assign(**{PATIENT: chosen.patients}), unnamed])


def _endpoint_names(columns: Sequence[str]) -> list[str]:
    names = [column.removesuffix(TIME_SUFFIX) for column in columns if column.endswith(TIME_SUFFIX)]
    return [name for name in names if name + EVENT_SUFFIX in columns]


def _numbers(wide: pd.DataFrame, column: str, path: Path) -> NDArray[np.float64]:
    import pandas as pd

    from tcgn_mil.io.tables.text_numbers import MISSING

    cells = wide[column]
    if not pd.api.types.is_numeric_dtype(cells):
        # Other programs write NA where this one leaves a cell empty.
        cells = cells.mask(cells.str.lower().isin(MISSING))
    numbers = pd.to_numeric(cells, errors="coerce")
    not_number = (numbers.isna() & cells.notna()).to_numpy()
    if not_number.any():
        row = int(np.argmax(not_number))
        cell = str(wide[column].iloc[row])[:60]
        raise InputError(
            f"column {column}, row {wide.index[row]}: {cell!r} is not a number",
            path=path,
            fix=f"write numbers with a decimal point, or {_AGAIN}",
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)
