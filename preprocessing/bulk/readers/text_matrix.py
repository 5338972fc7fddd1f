"""Read the text of an expression table, with what portals, R and spreadsheets put around it.

A table may begin with comment lines (``#``), be separated by blanks as R's ``write.table`` writes
it, lack the name of its first column, have decimal commas, and leave a gene without a name.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables import parquet
from tcgn_mil.io.tables.decimal_mark import contradiction, has_commas
from tcgn_mil.io.tables.text_file import (
    MAX_COLUMNS,
    check_file,
    describe_errors,
    open_text,
    too_wide,
)

_SEPARATORS = "\t;,"
BLANKS = r"\s+"
_SAMPLED_ROWS = 200


class TextMatrix(NamedTuple):
    """A table with names in its first column.

    Attributes
    ----------
    columns
        Names of all columns. The first may be empty.
    ids
        Cells of the first column, without surrounding spaces; they may be empty.
    cells
        The other columns under the positions 1, 2, ..., with the types that pandas infers.
    """

    columns: list[str]
    ids: list[str]
    cells: pd.DataFrame


def leading_lines(path: Path, most: int = 200) -> list[str]:
    """Return the first lines of a text file; an empty list if it is no file of text."""
    if not path.is_file() or path.suffix.lower() in (*parquet.SUFFIXES, ".h5ad", ".xlsx"):
        return []
    check_file(path)  # one line of a .gz file can hold gigabytes
    with describe_errors(path), open_text(path) as text:
        return [line.rstrip("\r\n") for line in itertools.islice(text, most)]


def header_of(path: Path) -> list[str]:
    """Return the column names of a text table below its comment lines."""
    lines = leading_lines(path)
    start = _first_line(lines)
    return [] if start >= len(lines) else _header(lines[start])[0]


def read_text_matrix(
    path: Path, *, skip: int | None = None, end: str = "", text_columns: Collection[str] = ()
) -> TextMatrix:
    """Read a table of numbers whose first column names the rows.

    Parameters
    ----------
    path
        Text file, also .gz or .zip.
    skip
        Number of lines above the header. By default the comment lines are skipped.
    end
        Beginning of the line that ends the table; empty if the file ends it.
    text_columns
        Names of columns that are read as text, in lower case.

    Raises
    ------
    InputError
        If the file cannot be read, has no rows, a row has another number of cells than the header,
        or a comma may mark decimals as well as thousands.
    """
    check_file(path)
    with describe_errors(path), open_text(path) as text:
        if skip is None:
            skip = _first_line(leading_lines(path))
        for _ in range(skip):
            next(text, "")
        columns, separator = _header(next(text, "").rstrip("\r\n"))
        width = rows = 0
        sample: list[list[str]] = []
        for number, line in enumerate(_lines(text, end), start=skip + 2):
            if not line.strip() and (separator == BLANKS or separator not in line):
                continue  # pandas leaves out the same lines
            cells = _count(line, separator)
            if not width:
                # R writes no name above the names of the rows.
                columns = [""] * (cells == len(columns) + 1) + columns
                width = len(columns)
                if width > MAX_COLUMNS:
                    raise too_wide(path, width)
            if cells != width:
                raise InputError(
                    f"line {number} has {cells} cells under {width} columns",
                    path=path,
                    fix="check its separators and quotes, or copy the file again if it is cut off",
                )
            if len(sample) < _SAMPLED_ROWS:
                sample.append(_split(line, separator))
            rows += 1
    if not width or not any(columns):
        raise InputError(
            "holds no rows below a header",
            path=path,
            fix="give a table whose first row names the columns",
        )
    as_text = [at for at, name in enumerate(columns) if name.lower() in text_columns and at]
    with describe_errors(path), open_text(path) as text:
        for _ in range(skip + 1):
            text.readline()
        table = pd.read_csv(
            text,
            sep=separator,
            header=None,
            nrows=rows,
            names=range(width),
            decimal=_decimal(sample, separator, path),
            converters={0: str.strip, **dict.fromkeys(as_text, str.strip)},
            low_memory=False,
        )
    if len(table) != rows:
        raise InputError(
            f"has {rows} rows, of which {len(table)} can be read",
            path=path,
            fix="check its quotes, or write the table again",
        )
    # Spreadsheets write empty columns behind the last one.
    unused = [at for at in range(1, width) if not columns[at] and table[at].isna().all()]
    numbered = _is_row_number(columns, table)
    ids = table[1 if numbered else 0]
    kept = [at for at in range(2 if numbered else 1, width) if at not in unused]
    return TextMatrix(
        [columns[1 if numbered else 0], *(columns[at] for at in kept)],
        ["" if pd.isna(name) else str(name).strip() for name in ids],
        table[kept].set_axis(range(1, len(kept) + 1), axis=1),
    )


def _is_row_number(columns: Sequence[str], table: pd.DataFrame) -> bool:
    """Return whether the first column counts the rows, as pandas and R save it."""
    if columns[0] not in ("", "Unnamed: 0") or len(columns) < 3:
        return False
    if pd.api.types.is_numeric_dtype(table[1]):
        return False
    return any(
        table[0].tolist() == [str(row) for row in range(first, first + len(table))]
        for first in (0, 1)
    )


def _first_line(lines: Sequence[str]) -> int:
    """Return the number of comment lines above the header.

    The last comment line is the header if it has as many cells as the line below: some tools write
    ``#gene`` as the name of the first column.
    """
    start = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if 0 < start < len(lines):
        names, separator = _header(lines[start - 1])
        if len(names) > 1 and _count(lines[start], separator) in (len(names), len(names) + 1):
            return start - 1
    return start


def _header(line: str) -> tuple[list[str], str]:
    separator = max(_SEPARATORS, key=line.count)
    if separator not in line:
        separator = BLANKS
    names = [name.strip() for name in _split(line, separator)]
    names[0] = names[0].removeprefix("#") if len(names) > 1 else names[0]
    return names, separator


def _split(line: str, separator: str) -> list[str]:
    if separator == BLANKS:
        return next(csv.reader([" ".join(line.split())], delimiter=" "), [""])
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [""])


def _count(line: str, separator: str) -> int:
    # Counting separators is ten times faster than parsing.
    if '"' in line or separator == BLANKS:
        return len(_split(line, separator))
    return line.count(separator) + 1


def _lines(text: IO[str], end: str) -> Iterator[str]:
    for line in text:
        if end and line.startswith(end):
            return
        yield line


def _decimal(sample: Sequence[Sequence[str]], separator: str, path: Path) -> str:
    """Return the decimal mark of the cells."""
    if separator == ",":
        return "."
    cells = [cell.strip() for row in sample for cell in row[1:] if "," in cell or "." in cell]
    comma = has_commas(cells)
    if not comma:
        return "."
    against = contradiction(cells)
    if against is not None:
        other = f" and {against!r}" if against else ""
        raise InputError(
            f"writes numbers as {comma!r}{other}, so that the comma may mark decimals or thousands",
            path=path,
            fix="write the table again with a decimal point and without marks of thousands",
        )
    return ","
