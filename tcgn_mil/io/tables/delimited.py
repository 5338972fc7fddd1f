"""Read CSV and TSV tables, also inside .gz and .zip files, and Parquet.

Every table that a user gives is read here. Cells are separated by tabs, semicolons or commas, or by
single blanks as R writes them. Lines above the header that start with ``#`` are passed over, and a
byte order mark does no harm. Parquet is read by :mod:`tcgn_mil.io.tables.parquet`, to which the
functions here pass on.

Three things differ from calling pandas directly. The size is bounded before the table is read.
Every row must have as many cells as the header, because pandas fills a short row with missing
values, and a file that was cut off while it was copied would pass unnoticed. Columns are read by
their position, because pandas renames repeated column names, which are an error to report here.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.spreadsheet_cells import restore_cell, restore_table
from tcgn_mil.io.tables import parquet
from tcgn_mil.io.tables.text_file import (
    MAX_COLUMNS,
    check_file,
    count_comment_lines,
    describe_errors,
    open_text,
    too_wide,
)
from tcgn_mil.text import duplicates, preview

_SEPARATORS = "\t;,"


def column_names(path: str | Path) -> list[str]:
    """Read the column names of a table.

    R writes a header that is one name shorter than the rows, because the row names have no column
    name. Such a table gets an empty first name here.

    Parameters
    ----------
    path
        CSV or TSV file, also .gz or .zip, or Parquet. The separator (tab, semicolon or comma) is
        the one that is most frequent in the header.

    Returns
    -------
    list of str
        The cells of the first row without surrounding spaces.

    Raises
    ------
    InputError
        If the file is missing, unreadable, too large, or has no row below the header.
    """
    path = Path(path)
    return parquet.column_names(path) if _is_parquet(path) else list(_read_header(path).names)


def separator_of(path: str | Path) -> str:
    """Return what separates the cells of a table; empty for Parquet.

    Raises
    ------
    InputError
        As for :func:`column_names`.
    """
    path = Path(path)
    return "" if _is_parquet(path) else _read_header(path).separator


def read_columns(
    path: str | Path, columns: Sequence[int], *, ids: int | None = None
) -> pd.DataFrame:
    """Read columns by their position.

    Parameters
    ----------
    path
        CSV or TSV file, also .gz or .zip, or Parquet.
    columns
        Positions in :func:`column_names`. The result has them in the order of the file.
    ids
        Position of the column that becomes the index. It is read as text, so that ``007`` stays
        ``007``. None for a numbered index.

    Returns
    -------
    DataFrame
        The columns under their names, with the types that pandas infers.

    Raises
    ------
    InputError
        As for :func:`column_names`; or if a row has another number of cells than the header, or a
        row has no id.
    """
    path = Path(path)
    if _is_parquet(path):
        return parquet.read_columns(path, columns, ids=ids)
    header = _read_header(path)
    names = header.names
    table = _read_rows(
        path,
        header,
        len(names),
        usecols=sorted({*columns} | ({ids} if ids is not None else set())),
        low_memory=False,
        converters={} if ids is None else {ids: str.strip},
    )
    if ids is not None:
        table = table.set_index(ids)
        _check_ids(table.index, names[ids], header.lines, path)
        table.index.name = None
    table.columns = pd.Index([names[int(position)] for position in table.columns])
    return restore_table(table)


def read_text_columns(
    path: str | Path, columns: Sequence[int] | None = None, *, unnamed_ids: bool = True
) -> pd.DataFrame:
    """Read columns as text.

    Parameters
    ----------
    path
        CSV or TSV file, also .gz or .zip, or Parquet.
    columns
        Positions in :func:`column_names`; None for all columns.
    unnamed_ids
        Whether the header may lack the name of the first column, as R writes it.

    Returns
    -------
    DataFrame
        Cells without surrounding spaces; an empty cell is an empty string. The index is the number
        of the row in the file (the header is row 1), for error messages. Empty rows are left out.

    Raises
    ------
    InputError
        As for :func:`read_columns`.
    """
    path = Path(path)
    if _is_parquet(path):
        return parquet.read_text_columns(path, columns)
    header = _read_header(path)
    names = header.names
    if not unnamed_ids and names[0] == "":
        names = names[1:]
    table = _read_rows(
        path,
        header,
        len(names),
        usecols=None if columns is None else sorted({*columns}),
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=False,
    )
    table = table.fillna("").apply(lambda column: column.str.strip())
    table.index += header.lines + 1
    table.columns = pd.Index([names[int(position)] for position in table.columns])
    table = restore_table(table)
    return table[(table != "").any(axis=1)]


def read_named_columns(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = ()
) -> pd.DataFrame:
    """Read columns as text by their names.

    Parameters
    ----------
    path
        CSV or TSV file, also .gz or .zip, or Parquet.
    required, optional
        Names of the columns to read. Other columns of the file are ignored.

    Returns
    -------
    DataFrame
        As for :func:`read_text_columns`. An optional column is present only if the file has it.

    Raises
    ------
    InputError
        As for :func:`read_text_columns`; or if a required column is missing, or a column is there
        twice.
    """
    names = column_names(path)
    if absent := [name for name in required if name not in names]:
        raise InputError(
            f"has no column {preview(absent)}; its columns are {preview(names)}",
            path=path,
            fix=f"give a table with the columns {', '.join(required)}",
        )
    wanted = {*required, *optional}
    positions = [position for position, name in enumerate(names) if name in wanted]
    if repeated := duplicates([names[position] for position in positions]):
        raise InputError(
            f"has column {preview(repeated)} more than once",
            path=path,
            fix="rename or remove one of them",
        )
    return read_text_columns(path, positions)


def read_cells(path: str | Path) -> pd.DataFrame:
    """Read all rows of a small table as text, for files that may have no header.

    Parameters
    ----------
    path
        CSV or TSV file, also .gz or .zip, or Parquet.

    Returns
    -------
    DataFrame
        Cells without surrounding spaces, under numbered columns. The first row of the file is the
        first row of the result.

    Raises
    ------
    InputError
        If the file is missing, unreadable, too large or empty, or a row has another number of cells
        than the first.
    """
    path = Path(path)
    check_file(path)
    with describe_errors(path), open_text(path) as text:
        line = text.readline()
        separator = _separator(line)
        cells = next(csv.reader([line], delimiter=separator), [])
    if not cells:
        raise InputError("is empty", path=path, fix="copy the file again")
    if len(cells) > MAX_COLUMNS:
        raise too_wide(path, len(cells))
    header = _Header(cells, separator, lines=0)
    table = _read_rows(path, header, len(cells), dtype=str, keep_default_na=False)
    return table.apply(lambda column: column.str.strip())


class _Header(NamedTuple):
    """Names of the columns, the separator, and the number of lines up to the header."""

    names: list[str]
    separator: str
    lines: int


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in parquet.SUFFIXES


def _read_rows(path: Path, header: _Header, width: int, **options: Any) -> pd.DataFrame:
    """Read the rows below the header under the column names 0 to `width` - 1."""
    _check_row_lengths(path, header, width)
    with describe_errors(path), open_text(path) as text:
        # Lines are skipped here and not by pandas, which would read quotes in a comment as the
        # start of a cell. A quoted header may go on over several lines.
        for _ in range(header.lines - 1):
            next(text)
        if header.lines:
            next(csv.reader(text, delimiter=header.separator))
        return pd.read_csv(text, sep=header.separator, header=None, names=range(width), **options)


def _read_header(path: Path) -> _Header:
    """Read the header of a text table."""
    check_file(path)
    comments = count_comment_lines(path, _SEPARATORS)
    with describe_errors(path), open_text(path) as text:
        for _ in range(comments):
            next(text)
        line, below = text.readline(), text.readline()
        separator = _separator(line, below)
        cells = next(csv.reader([line], delimiter=separator), [])
        names = [str(restore_cell(cell.strip())) for cell in cells]
        rows = csv.reader(itertools.chain([below], text), delimiter=separator)
        first_row = next(filter(any, rows), [])
    if not any(names) or not first_row:
        raise InputError(
            "holds no rows below a header",
            path=path,
            fix="give a table whose first row names the columns",
        )
    if len(names) > MAX_COLUMNS:
        raise too_wide(path, len(names))
    if len(first_row) == len(names) + 1:
        names.insert(0, "")
    return _Header(names, separator, comments + 1)


def _separator(header: str, below: str = "") -> str:
    """Return the separator of a table from its header and the line below it.

    R's write.table separates cells by blanks. A blank counts only if there is no other separator,
    and if it divides both lines into as many cells; the header may have one less.
    """
    separator = max(_SEPARATORS, key=header.count)
    if separator in header or " " not in header.strip():
        return separator
    cells = [len(next(csv.reader([line.strip()], delimiter=" "), [])) for line in (header, below)]
    return " " if cells[0] in (cells[1], cells[1] - 1) else separator


def _check_row_lengths(path: Path, header: _Header, width: int) -> None:
    """Check that every row below the header has `width` cells."""
    separator = header.separator
    with describe_errors(path), open_text(path) as text:
        for _ in range(max(header.lines, 1)):
            next(text)
        for number, line in enumerate(text, start=max(header.lines, 1) + 1):
            cells = line.count(separator) + 1
            if '"' in line:
                # A quoted cell may contain separators and line breaks, so that it has to be parsed.
                # Counting separators is ten times faster for all other lines.
                cells = len(next(csv.reader(itertools.chain([line], text), delimiter=separator)))
            if cells != width and line.strip():
                raise InputError(
                    f"line {number} has {cells} cells under {width} columns",
                    path=path,
                    fix="check its separators and quotes, or copy the file again if it is cut off",
                )


def _check_ids(index: pd.Index, column: str, header_lines: int, path: Path) -> None:
    empty = [row for row, name in enumerate(index) if not name]
    if empty:
        raise InputError(
            f"row {empty[0] + header_lines + 1} has no id in column {column or 1!r}",
            path=path,
            fix="write an id in this row, or remove the row",
        )
