"""Read tables with one row for each patient, whose first column names the patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.tables.decimal_mark import commas_note, with_points
from tcgn_mil.io.tables.delimited import separator_of
from tcgn_mil.io.tables.formats import table_module
from tcgn_mil.io.tables.text_numbers import MISSING, numbers_or_text
from tcgn_mil.patient_rows import one_row_per_patient
from tcgn_mil.text import duplicates, preview

# Names of the column in which programs save the numbers of the rows.
_ROW_NUMBERS = frozenset({"", "Unnamed: 0", "__index_level_0__"})
# Cells that programs write where a name is missing.
_NO_NAME = frozenset({"", "na", "n/a", "nan", "none", "null"})


class PatientTable(NamedTuple):
    """A table of patients.

    Attributes
    ----------
    values
        The index holds the patients, which are all different; at least one row and one column.
    notes
        One sentence for each reason for which rows were left out, and one on decimal commas.
    """

    values: pd.DataFrame
    notes: tuple[str, ...]


@reads("a table of patients", fix="check the file, and copy it again")
def read_patient_table(path: str | Path) -> PatientTable:
    """Read a table of patients.

    The rows may be named by samples, aliquots or slides; see
    :func:`~tcgn_mil.patient_rows.one_row_per_patient`.

    Parameters
    ----------
    path
        CSV or TSV file (also .gz or .zip), or Parquet. A first column of row numbers, as programs
        save it, is passed over. Decimal commas are read where nothing else can be meant; see
        :mod:`~tcgn_mil.io.tables.decimal_mark`.

    Returns
    -------
    PatientTable

    Raises
    ------
    InputError
        If the file is missing or unreadable, has no values, repeats a column, has rows of one
        patient that differ, or has a row that names no patient.
    """
    path = Path(path)
    module = table_module(path)
    names = module.column_names(path)
    if repeated := duplicates(names):
        raise InputError(
            f"column {preview(repeated)} appears more than once",
            path=path,
            fix="rename or remove one of them",
        )
    ids = _id_column(path, names)
    columns = range(ids + 1, len(names))
    table = module.read_columns(path, columns, ids=ids) if len(columns) else None
    if table is None or not len(table):
        raise InputError(
            "holds no values",
            path=path,
            fix="give one row for each patient, with the patient's name in the first column",
        )
    check_named(tuple(table.index), path)
    table, with_commas = with_points(table, separator_of(path), MISSING)
    for name in with_commas:
        table[name] = numbers_or_text(table[name], name, path=path).values
    values, notes = one_row_per_patient(table, path)
    if with_commas:
        notes = (f"{path.name}: {commas_note(with_commas)}", *notes)
    return PatientTable(values, notes)


def _id_column(path: Path, names: Sequence[str]) -> int:
    """Return the position of the column that names the patients: the first, unless it is numbered.

    pandas and R save the numbers of the rows as a first column without a name. If the next column
    then holds a name for each row, it is that of the patients.
    """
    if len(names) < 3 or names[0] not in _ROW_NUMBERS:
        return 0
    module = table_module(path)
    numbers = list(module.read_columns(path, [], ids=0).index)
    counted = [list(map(str, range(first, first + len(numbers)))) for first in (0, 1)]
    if numbers not in counted:
        return 0
    # Names can look like numbers, but then nothing tells them from a column of values.
    cells = module.read_columns(path, [1])[names[1]]
    is_text = not pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells)
    return 1 if is_text and cells.notna().all() and cells.is_unique else 0


def check_named(patients: Sequence[str], path: Path) -> None:
    """Raise InputError with the number of the row if a row names no patient."""
    unnamed = [row for row, name in enumerate(patients) if name.lower() in _NO_NAME]
    if unnamed:
        raise InputError(
            f"row {unnamed[0] + 2} names no patient",
            path=path,
            fix="write the patient's name in this row, or remove the row",
        )
