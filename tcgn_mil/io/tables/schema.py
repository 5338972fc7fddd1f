"""Tables that users give, each declared once: its columns, what a cell may be, the fix.

Declared with pandera, which is imported when a table is checked. Tables are of text, one row a line of the file, the
index being that line's number. Those of clinical data, whose columns users name, are declared in
:mod:`~tcgn_mil.preprocessing.clinical.layouts`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import read_text_columns
from tcgn_mil.types.tiles import MPP_RANGE, duplicates, preview


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


def _is_filled(cells: pd.Series) -> pd.Series:
    return cells != ""


def _is_plain_name(cells: pd.Series) -> pd.Series:
    return ~cells.str.contains(r"[/\\\x00]|^\.+$", regex=True)


def _stays_inside(cells: pd.Series) -> pd.Series:
    return cells.map(
        lambda cell: Path(cell).is_absolute() or Path(os.path.normpath(cell)).parts[:1] != ("..",)
    )


def _is_resolution(cells: pd.Series) -> pd.Series:
    return (cells == "") | pd.to_numeric(cells, errors="coerce").between(*MPP_RANGE)


FILLED = CellRule(_is_filled, "is blank")
PLAIN_NAME = CellRule(_is_plain_name, "is no plain file name")

INSIDE = CellRule(
    _stays_inside,
    "leaves the table's folder",
    "give an absolute path, or put the table beside what it names",
)
RESOLUTION = CellRule(
    _is_resolution,
    f"is no resolution in µm per pixel, {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}",
    "give the scanner's micrometres per pixel, for example 0.25 (40x) or 0.5 (20x), or leave the cell empty",
)

GENE_MAP = TableSchema(
    "gene map",
    {"id": (FILLED,), "gene": ()},
    fix="give columns id and gene, as a Xena probe map has them",
)
SAMPLE_SHEET = TableSchema(
    "GDC sample sheet",
    {
        "File ID": (FILLED, PLAIN_NAME),
        "File Name": (FILLED, PLAIN_NAME),
        "Case ID": (FILLED,),
        "Sample ID": (FILLED,),
    },
    unique=("File ID", "File Name"),
    optional={"Sample Type": (), "Tissue Type": (), "Tumor Descriptor": (), "Specimen Type": ()},
    fix="download the sample sheet of this cart from the GDC again, and leave it as it is",
)
SLIDES_TABLE = TableSchema(
    "slides table",
    {"path": (FILLED, INSIDE)},
    optional={"slide_id": (), "patient_id": (), "mpp": (RESOLUTION,), "site": (), "donor": ()},
    fix="give one row a slide, with columns path and, as known, slide_id, patient_id, mpp, site, donor",
)
SECTIONS_TABLE = TableSchema(
    "table of sections",
    {"path": (FILLED, INSIDE)},
    optional={
        "section": (),
        "patient_id": (),
        "image": (INSIDE,),
        "format": (),
        "mpp": (RESOLUTION,),
    },
    fix="give one row a section, with columns path and, as known, section, patient_id, image, format, mpp",
)
SLIDES_MANIFEST = TableSchema(
    "slides manifest",
    {"slide_id": (FILLED, PLAIN_NAME), "patient_id": (FILLED,)},
    unique=("slide_id",),
    fix="give one row a slide, with its slide_id and patient_id",
)


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
