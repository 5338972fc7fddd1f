"""Read Parquet tables, for :mod:`tcgn_mil.io.tables.delimited`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.archive import most_unpacked, too_large
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.io.tables.text_file import MAX_COLUMNS, MAX_TABLE_BYTES, too_wide
from tcgn_mil.text import duplicates, preview

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SUFFIXES = (".parquet", ".pq")


def column_names(path: str | Path) -> list[str]:
    """Read the column names of a table.

    Parameters
    ----------
    path
        Parquet file.

    Returns
    -------
    list of str
        Names of the columns. If pandas stored an index, its column comes first, because that is
        the place of the ids in a text table.

    Raises
    ------
    InputError
        If the file is missing, unreadable or too large.
    """
    names, stored_index = _names(_open(Path(path)))
    return [*stored_index, *(name for name in names if name not in stored_index)]


def read_columns(
    path: str | Path, columns: Sequence[int], *, ids: int | None = None
) -> pd.DataFrame:
    """Read columns by their position.

    Parameters
    ----------
    path
        Parquet file.
    columns
        Positions in :func:`column_names`.
    ids
        Position of the column that becomes the index, as text. None for a numbered index.

    Returns
    -------
    DataFrame
        The columns under their names, in the order of `columns`.

    Raises
    ------
    InputError
        As for :func:`column_names`; or if two columns have the same name, or a row has no id.
    """
    path = Path(path)
    names = column_names(path)
    chosen = [names[position] for position in columns]
    if repeated := duplicates(chosen):
        raise InputError(
            f"names column {preview(repeated)} twice", path=path, fix="rename one of them"
        )
    id_name = [] if ids is None else [names[ids]]
    with describe_damage(path, what="Parquet", fix="copy the file again"):
        table = _open(path).read(columns=[*id_name, *chosen]).to_pandas(ignore_metadata=True)
    if not id_name:
        return table[chosen]
    index = pd.Index(table[id_name[0]].astype(str).str.strip())
    if table[id_name[0]].isna().any() or (index == "").any():
        raise InputError(
            f"column {id_name[0]!r} has rows without an id",
            path=path,
            fix="write an id in these rows, or remove them",
        )
    return table[chosen].set_axis(index.rename(None), axis=0)


def read_text_columns(path: str | Path, columns: Sequence[int] | None = None) -> pd.DataFrame:
    """Read columns as text.

    Parameters
    ----------
    path
        Parquet file.
    columns
        Positions in :func:`column_names`; None for all columns.

    Returns
    -------
    DataFrame
        Cells as a CSV file would have them: whole numbers without a decimal point, and an empty
        string for a missing value. The index is the number of the row, as if a header were row 1.

    Raises
    ------
    InputError
        As for :func:`read_columns`.
    """
    names = column_names(path)
    chosen = range(len(names)) if columns is None else sorted({*columns})
    table = read_columns(path, chosen).apply(_as_text)
    table.index = pd.RangeIndex(2, len(table) + 2)
    return table[(table != "").any(axis=1)]


def _as_text(column: pd.Series) -> pd.Series:
    known = column.notna()
    whole = pd.api.types.is_float_dtype(column)
    return pd.Series(
        [
            ""
            if not given
            else str(int(cell))
            if whole and float(cell).is_integer()
            else cell.decode("utf-8", "replace").strip()
            if isinstance(cell, bytes)
            else str(cell).strip()
            for cell, given in zip(column, known, strict=True)
        ],
        index=column.index,
        dtype=object,
    )


def _open(path: Path) -> ParquetFile:
    if not path.is_file():
        raise InputError("no such table", path=path, fix="check the path")
    from pyarrow.parquet import ParquetFile

    with describe_damage(path, what="a complete Parquet file", fix="copy the file again"):
        file = ParquetFile(path)
    # Columns that repeat one value are stored in almost nothing, so that cells are counted.
    unpacked = 8 * file.metadata.num_rows * file.metadata.num_columns
    if unpacked > MAX_TABLE_BYTES:
        raise InputError(f"unpacks to {unpacked / 2**30:.0f} GiB", path=path, fix="select columns")
    if file.metadata.num_columns > MAX_COLUMNS:
        raise too_wide(path, file.metadata.num_columns)
    packed = path.stat().st_size
    if unpacked > most_unpacked(packed):
        raise too_large(path, unpacked, packed)
    return file


def _names(file: ParquetFile) -> tuple[list[str], list[str]]:
    """Return the column names, and those among them in which pandas stored an index."""
    schema = file.schema_arrow
    # pandas describes a numbered index (RangeIndex) by a dictionary instead of a column name.
    stored = (schema.pandas_metadata or {}).get("index_columns", [])
    return list(schema.names), [name for name in stored if isinstance(name, str)]
