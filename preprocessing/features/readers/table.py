"""Read a table with one vector of features for each slide, with all columns that it holds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables import parquet
from tcgn_mil.io.tables.formats import table_module
from tcgn_mil.text import duplicates, preview

_TEXT_SUFFIXES = (".csv", ".tsv")
_PACKED = ("", ".gz", ".zip")
SUFFIXES = (
    *(suffix + packed for suffix in _TEXT_SUFFIXES for packed in _PACKED),
    *parquet.SUFFIXES,
)


def is_feature_table(path: Path) -> bool:
    """Return whether a file is a table, judged by its suffix."""
    return path.name.lower().endswith(SUFFIXES)


def read_feature_table(path: Path) -> pd.DataFrame:
    """Read a table of slide features as it is.

    Parameters
    ----------
    path
        CSV or TSV (also .gz or .zip), or Parquet.

    Returns
    -------
    pandas.DataFrame
        All columns, in the order of the file. A column is numeric, with NaN for an empty cell, or
        it holds text and, for an empty cell, None. True and false are the numbers 1 and 0.

    Raises
    ------
    InputError
        If the table cannot be read, holds no row, or repeats the name of a column.
    """
    module = table_module(path)
    names = module.column_names(path)
    if repeated := duplicates(names):
        raise InputError(
            f"has column {preview(repeated)} more than once",
            path=path,
            fix="rename or remove one of them",
        )
    table: pd.DataFrame = module.read_columns(path, range(len(names)))
    if not len(table):
        raise InputError("holds no rows", path=path, fix="give one row for each slide")
    return pd.DataFrame({name: _plain(table[name]) for name in names})


def read_names(path: Path, column: str) -> list[str]:
    """Read a column of names as the text of the file, so that ``007`` stays ``007``.

    Raises
    ------
    InputError
        If a row has no name in this column.
    """
    module = table_module(path)
    ids = module.read_columns(path, [], ids=module.column_names(path).index(column))
    return [str(name) for name in ids.index]


def _plain(column: pd.Series) -> pd.Series:
    """Return a column as numbers or as text; one without any value counts as numbers."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    known = column.dropna()
    # pandas stores true and false beside missing cells as objects, and without them as booleans. A
    # column has to keep its role when a cell is missing, or two cohorts would differ in columns.
    if all(isinstance(value, bool) for value in known):
        return column.astype("float64")
    return column.astype(object).map(str, na_action="ignore")
