"""Tables of names that users give to ``tcgn-mil bulk``, each declared once: its columns, what a cell may be, the fix.

Declared with pandera, which is imported when a table is checked. Tables are of text, one row a line of the file, the
index being that line's number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from tcgn_mil.contracts import preview
from tcgn_mil.errors import InputError


@dataclass(frozen=True)
class CellRule:
    """What the cells of a column must be.

    Attributes
    ----------
    holds
        Cells -> whether each is fine.
    fault
        Said after a faulty cell: ``row 7: 'x' is no file name``.
    """

    holds: Callable[[pd.Series], pd.Series]
    fault: str


@dataclass(frozen=True)
class TableSchema:
    """A table: its name in errors, its required columns with their rules, columns without repeats, and the fix."""

    what: str
    columns: dict[str, tuple[CellRule, ...]]
    unique: tuple[str, ...] = ()
    fix: str = ""


def _is_filled(cells: pd.Series) -> pd.Series:
    return cells != ""


def _is_plain_name(cells: pd.Series) -> pd.Series:
    return ~cells.str.contains(r"[/\\\x00]|^\.+$", regex=True)


FILLED = CellRule(_is_filled, "is blank")
PLAIN_NAME = CellRule(_is_plain_name, "is no plain file name")

GENE_MAP = TableSchema(
    "gene map", {"id": (FILLED,), "gene": ()}, fix="give columns id and gene, as a Xena probe map has them"
)
SAMPLE_SHEET = TableSchema(
    "GDC sample sheet",
    {
        "File ID": (FILLED, PLAIN_NAME),
        "File Name": (FILLED, PLAIN_NAME),
        "Case ID": (FILLED,),
        "Sample ID": (FILLED,),
        "Sample Type": (),
    },
    unique=("File ID", "File Name"),
    fix="download the sample sheet of this cart from the GDC again, and leave it as it is",
)
SLIDES_MANIFEST = TableSchema(
    "slides manifest",
    {"slide_id": (FILLED, PLAIN_NAME), "patient_id": (FILLED,)},
    unique=("slide_id",),
    fix="give one row a slide, with its slide_id and patient_id",
)


def check_table(table: pd.DataFrame, schema: TableSchema, *, path: str | Path) -> pd.DataFrame:
    """The schema's columns of a table of text.

    Raises
    ------
    InputError
        Naming the file, the column and the row of the first fault.
    """
    absent = [name for name in schema.columns if name not in table.columns]
    if absent:
        raise InputError(
            f"is no {schema.what}: it has no column {preview(absent)}, but {preview(list(table.columns))}",
            path=path,
            fix=schema.fix,
        )
    chosen = table[list(schema.columns)]
    if not chosen.columns.is_unique:
        raise InputError("has a column of the same name twice", path=path, fix="rename one of them")
    if chosen.empty:
        raise InputError(f"is a {schema.what} without rows", path=path, fix=schema.fix)
    pandera = _pandera()
    try:
        return _declared(schema, pandera).validate(chosen, lazy=True)
    except pandera.errors.SchemaErrors as error:
        raise _first_fault(error.failure_cases, chosen, schema, path) from error


def _declared(schema: TableSchema, pandera: ModuleType) -> Any:
    return pandera.DataFrameSchema(
        {
            name: pandera.Column(
                str,
                [pandera.Check(rule.holds, error=rule.fault) for rule in rules],
                unique=name in schema.unique,
                report_duplicates="exclude_first",
            )
            for name, rules in schema.columns.items()
        }
    )


def _first_fault(cases: pd.DataFrame, table: pd.DataFrame, schema: TableSchema, path: str | Path) -> InputError:
    """The fault of the lowest row, with the number of others."""
    case = cases.sort_values("index", kind="stable").iloc[0]
    repeats = str(case["check"]) == "field_uniqueness"
    fault = "is there more than once" if repeats else str(case["check"])
    others = f" (and {len(cases) - 1} more faults)" if len(cases) > 1 else ""
    return InputError(
        f"{schema.what}, column {case['column']}, row {case['index']}: {str(case['failure_case'])!r} {fault}{others}",
        path=path,
        fix=schema.fix,
    )


def _pandera() -> ModuleType:
    """pandera for pandas, which newer versions keep in a module of its own."""
    import importlib
    import importlib.util

    if importlib.util.find_spec("pandera.pandas") is not None:
        return importlib.import_module("pandera.pandas")
    return importlib.import_module("pandera")
