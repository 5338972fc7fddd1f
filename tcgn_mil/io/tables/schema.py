"""Declare the tables that users give, and check a table against its declaration.

A declaration lists the columns, the rules for their cells, and the advice for the user. The checks
are done by pandera, which is imported when a table is checked. Tables are text, and the index is
the number of the row in the file. The declarations themselves are in
:mod:`tcgn_mil.preprocessing.schemas`; those of clinical tables, whose columns the user names, are
in :mod:`tcgn_mil.preprocessing.clinical.layouts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import read_text_columns
from tcgn_mil.text import duplicates, preview

_NOT_UNIQUE = "field_uniqueness"  # pandera's name for its check of repeated cells


@dataclass(frozen=True)
class CellRule:
    """A rule for the cells of a column.

    Attributes
    ----------
    holds
        Function from a series of cells to a bool series, True for a correct cell.
    fault
        End of the error message, after the cell, for example ``is not a plain file name``.
    fix
        Advice for the user. If empty, the advice of the table is used.
    """

    holds: Callable[[pd.Series], pd.Series]
    fault: str
    fix: str = ""


@dataclass(frozen=True)
class TableSchema:
    """Declaration of a table.

    Attributes
    ----------
    what
        Name of the table in error messages, for example ``gene map``.
    columns
        Required columns with their rules.
    unique
        Columns whose cells must all be different.
    fix
        Advice for the user if a rule has none of its own.
    optional
        Columns that may be missing, with their rules. A missing column is filled with empty cells.
    patient
        Column that names the patient. If given, error messages name the patient beside the row.
    """

    what: str
    columns: dict[str, tuple[CellRule, ...]]
    unique: tuple[str, ...] = ()
    fix: str = ""
    optional: dict[str, tuple[CellRule, ...]] = field(default_factory=dict)
    patient: str | None = None

    @property
    def rules(self) -> dict[str, tuple[CellRule, ...]]:
        """Rules of the required and the optional columns."""
        return {**self.columns, **self.optional}


def read_table(path: str | Path, schema: TableSchema) -> pd.DataFrame:
    """Read a small table with a header and check it.

    Parameters
    ----------
    path
        CSV or TSV file, also .gz or .zip. Column names may be in upper or lower case.
    schema
        Declaration of the table.

    Returns
    -------
    DataFrame
        As for :func:`check_table`.

    Raises
    ------
    InputError
        As for :func:`~tcgn_mil.io.tables.delimited.read_text_columns` and :func:`check_table`.
    """
    table = read_text_columns(path, unnamed_ids=False)
    return check_table(table.rename(columns=str.lower), schema, path=path)


def check_table(table: pd.DataFrame, schema: TableSchema, *, path: str | Path) -> pd.DataFrame:
    """Check a table of text.

    Parameters
    ----------
    table
        The table. Its index is the number of the row in the file.
    schema
        Declaration of the table.
    path
        File of the table, for error messages.

    Returns
    -------
    DataFrame
        The declared columns, in the order of their declaration.

    Raises
    ------
    InputError
        If a column is missing or repeated, there are no rows, or a cell breaks a rule. The message
        names the column and the row of the first wrong cell.
    """
    import pandera.errors

    absent = [name for name in schema.columns if name not in table.columns]
    if absent:
        raise InputError(
            f"is not a {schema.what}: it has no column {preview(absent)}; its columns are"
            f" {preview(list(table.columns))}",
            path=path,
            fix=schema.fix,
        )
    chosen = table[[name for name in schema.rules if name in table.columns]]
    if repeated := duplicates(chosen.columns):
        raise InputError(
            f"has column {preview(repeated)} more than once", path=path, fix="rename one of them"
        )
    if chosen.empty:
        raise InputError(f"is a {schema.what} without rows", path=path, fix=schema.fix)
    try:
        checked = _pandera_schema(schema, chosen.columns).validate(chosen, lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise _first_fault(error.failure_cases, chosen, schema, path) from error
    return checked.reindex(columns=list(schema.rules), fill_value="")


def _pandera_schema(schema: TableSchema, columns: Iterable[str]) -> Any:
    import pandera.pandas as pandera

    return pandera.DataFrameSchema(
        {
            name: pandera.Column(
                str,
                [pandera.Check(rule.holds, error=rule.fault) for rule in schema.rules[name]],
                unique=name in schema.unique,
                report_duplicates="exclude_first",
            )
            for name in columns
        }
    )


def _first_fault(
    cases: pd.DataFrame, table: pd.DataFrame, schema: TableSchema, path: str | Path
) -> InputError:
    """Describe the first wrong cell, and count the other wrong cells of its column."""
    case = cases.sort_values("index", kind="stable").iloc[0]
    column, row, fault = str(case["column"]), case["index"], str(case["check"])
    rule = next((rule for rule in schema.rules[column] if rule.fault == fault), None)
    if fault == _NOT_UNIQUE:
        fault = "appears more than once"
    name = (
        "" if schema.patient in (None, column) else f" (patient {table.loc[row, schema.patient]})"
    )
    others = int((cases["column"] == column).sum()) - 1
    more = f", and {others} other {'cell' if others == 1 else 'cells'} too" if others else ""
    cell = str(case["failure_case"])[:60]
    return InputError(
        f"{schema.what}, column {column}, row {row}{name}: {cell!r} {fault}{more}",
        path=path,
        fix=(rule.fix if rule else "") or schema.fix,
    )
