"""Tables that users give, each declared once: its columns, what a cell may be, the fix.

Declared with pandera, which is imported when a table is checked. Tables are of text, one row a line of the file, the
index being that line's number. Those of clinical data, whose columns users name, are declared in
:mod:`~tcgn_mil.preprocessing.clinical.layouts`.
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


@dataclass(frozen=True)
class CellRule:
    """What the cells of a column must be.

    Attributes
    ----------
    holds
        Cells -> whether each is fine.
    fault
        Said after a faulty cell: ``row 7: 'x' is no file name``.
    fix
        Instead of the table's.
    """

    holds: Callable[[pd.Series], pd.Series]
    fault: str
    fix: str = ""


@dataclass(frozen=True)
class TableSchema:
    """A table.

    Attributes
    ----------
    what
        Its name in errors.
    columns
        Those it must have, with their rules.
    unique
        Columns whose cells do not repeat.
    fix
        Said where a rule has none of its own.
    optional
        Columns it may have, with their rules; where one is absent its cells are blank.
    patient
        Column of the patient, who is named in errors: ``row 7 (patient P1)``.
    """

    what: str
    columns: dict[str, tuple[CellRule, ...]]
    unique: tuple[str, ...] = ()
    fix: str = ""
    optional: dict[str, tuple[CellRule, ...]] = field(default_factory=dict)
    patient: str | None = None

    @property
    def rules(self) -> dict[str, tuple[CellRule, ...]]:
        """Of all columns."""
        return {**self.columns, **self.optional}


def read_table(path: str | Path, schema: TableSchema) -> pd.DataFrame:
    """Read a small table with a header, whatever its case, and check it.

    Raises
    ------
    InputError
        As :func:`~tcgn_mil.io.tables.delimited.read_text_columns` and :func:`check_table`.
    """
    table = read_text_columns(path, unnamed_ids=False)
    return check_table(table.rename(columns=str.lower), schema, path=path)


def check_table(table: pd.DataFrame, schema: TableSchema, *, path: str | Path) -> pd.DataFrame:
    """The schema's columns of a table of text.

    Raises
    ------
    InputError
        Naming the file, the column and the row of the first fault.
    """
    import pandera.errors

    absent = [name for name in schema.columns if name not in table.columns]
    if absent:
        raise InputError(
            f"is no {schema.what}: it has no column {preview(absent)}, but {preview(list(table.columns))}",
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
        checked = _declared(schema, chosen.columns).validate(chosen, lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise _first_fault(error.failure_cases, chosen, schema, path) from error
    return checked.reindex(columns=list(schema.rules), fill_value="")


def _declared(schema: TableSchema, columns: Iterable[str]) -> Any:
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
    """The fault of the lowest row, with the number of others."""
    case = cases.sort_values("index", kind="stable").iloc[0]
    column, row, fault = str(case["column"]), case["index"], str(case["check"])
    rule = next((rule for rule in schema.rules[column] if rule.fault == fault), None)
    if fault == "field_uniqueness":
        fault = "is there more than once"
    name = (
        "" if schema.patient in (None, column) else f" (patient {table.loc[row, schema.patient]})"
    )
    alike = int((cases["column"] == column).sum()) - 1
    others = f", and {alike} more of its cells" if alike else ""
    cell = str(case["failure_case"])[:60]
    return InputError(
        f"{schema.what}, column {column}, row {row}{name}: {cell!r} {fault}{others}",
        path=path,
        fix=(rule.fix if rule else "") or schema.fix,
    )
