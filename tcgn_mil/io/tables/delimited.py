"""Delimited tables, plain, gzipped or zipped: bounded in size, columns by position, errors that name the file.

Columns are read by position because pandas renames repeated names, which here are an error to show. Ids are text, so
that ``007`` stays what it is.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pandas as pd

from tcgn_mil.errors import InputError

MAX_TABLE_BYTES = 8 * 2**30  # of text, unpacked
_CHUNK_BYTES = 2**24
_SEPARATORS = "\t;,"
_READ_ERRORS = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, csv.Error)


def column_names(path: str | Path) -> list[str]:
    """Names in the first row as written, without blanks around them.

    A header one short of the rows below, as R writes it, starts with the ids' column, here named "".

    Raises
    ------
    InputError
        If the file is missing, unreadable, too large or empty.
    """
    return _read_header(Path(path))[0]


def read_columns(
    path: str | Path, columns: Sequence[int], *, ids: int | None = None
) -> pd.DataFrame:
    """The columns at these positions, in the file's order, under their names; column `ids` becomes the index, as text.

    Raises
    ------
    InputError
        As :func:`column_names`; or if a row does not fit the header, or has no id.
    """
    path = Path(path)
    names, separator = _read_header(path)
    _check_rows(path, separator, len(names))
    wanted = sorted({*columns} | ({ids} if ids is not None else set()))
    with _described(path), _open_text(path) as text:
        table = pd.read_csv(
            text,
            sep=separator,
            header=None,
            skiprows=1,
            names=range(len(names)),
            usecols=wanted,
            low_memory=False,
            converters={} if ids is None else {ids: str.strip},
        )
    if ids is not None:
        table = table.set_index(ids)
        _check_ids(table.index, names[ids], path)
        table.index.name = None
    table.columns = pd.Index([names[int(position)] for position in table.columns])
    return table


def _check_rows(path: Path, separator: str, width: int) -> None:
    """Refuse rows of another length: pandas would fill a row that was cut off, and cut one that was shifted."""
    with _described(path), _open_text(path) as text:
        next(text)
        for number, line in enumerate(text, start=2):
            cells = line.count(separator) + 1
            if '"' in line:  # a quoted cell may hold separators, and go on over the next lines
                cells = len(next(csv.reader(itertools.chain([line], text), delimiter=separator)))
            if cells != width and line.strip():
                raise InputError(
                    f"line {number} has {cells} cells under {width} columns",
                    path=path,
                    fix="check its separators and quotes, or copy the file again if it is cut off",
                )


def _check_ids(index: pd.Index, column: str, path: Path) -> None:
    empty = [row for row, name in enumerate(index) if not name]
    if empty:
        raise InputError(
            f"row {empty[0] + 2} has no id in column {column or 1!r}",
            path=path,
            fix="name every row, or remove it",
        )


def _read_header(path: Path) -> tuple[list[str], str]:
    """Column names and separator."""
    if not path.is_file():
        raise InputError("no such table", path=path, fix="check the path")
    _bound_size(path)
    with _described(path), _open_text(path) as text:
        first = text.readline()
        separator = max(_SEPARATORS, key=first.count)
        names = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        below = next(filter(any, csv.reader(text, delimiter=separator)), [])
    if not any(names) or not below:
        raise InputError(
            "holds no rows below a header", path=path, fix="the first row names the columns"
        )
    if len(below) == len(names) + 1:
        names.insert(0, "")
    return names, separator


@contextmanager
def _described(path: Path) -> Iterator[None]:
    """Turn what reading raises into an InputError."""
    try:
        yield
    except InputError:
        raise
    except _READ_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot be read as a table ({reason[:200]})",
            path=path,
            fix="give UTF-8 CSV or TSV (also .gz, .zip), and copy the file again if it may be cut off",
        ) from error


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    """The table's text; a byte order mark, which spreadsheets write, is taken off."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(_member(archive, path)) as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
    elif suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
            yield text
    else:
        with path.open(encoding="utf-8-sig", newline="") as text:
            yield text


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one file in an archive; macOS adds files of its own beside it."""
    files = [
        entry
        for entry in archive.infolist()
        if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
    ]
    if len(files) != 1:
        raise InputError(
            f"holds {len(files)} files, not one table", path=path, fix="zip one table, or unpack it"
        )
    return files[0]


def _bound_size(path: Path) -> None:
    """Refuse tables that unpack to more than memory holds, before they are read."""
    with _described(path):
        size = _unpacked_bytes(path)
    if size > MAX_TABLE_BYTES:
        raise InputError(
            f"unpacks to more than {MAX_TABLE_BYTES / 2**30:.0f} GiB",
            path=path,
            fix="select columns, or give Parquet",
        )


def _unpacked_bytes(path: Path) -> int:
    """Bytes of text; of a gzip file, which does not say, they are counted as far as the bound."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return _member(archive, path).file_size
    if suffix != ".gz":
        return path.stat().st_size
    size = 0
    with gzip.open(path) as file:
        while size <= MAX_TABLE_BYTES and (chunk := file.read(_CHUNK_BYTES)):
            size += len(chunk)
    return size


def read_cells(path: str | Path) -> pd.DataFrame:
    """All rows of a small table as text, the first one too: for files whose header may be missing.

    Raises
    ------
    InputError
        As :func:`column_names`; or if a row does not fit the first.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such table", path=path, fix="check the path")
    _bound_size(path)
    with _described(path), _open_text(path) as text:
        first = text.readline()
        separator = max(_SEPARATORS, key=first.count)
        width = len(next(csv.reader([first], delimiter=separator), []))
    if not width:
        raise InputError("is empty", path=path, fix="copy the file again")
    _check_rows(path, separator, width)
    with _described(path), _open_text(path) as text:
        table = pd.read_csv(
            text, sep=separator, header=None, dtype=str, keep_default_na=False, names=range(width)
        )
    return table.apply(lambda column: column.str.strip())


def read_text_columns(
    path: str | Path, columns: Sequence[int] | None = None, *, unnamed_ids: bool = True
) -> pd.DataFrame:
    """The columns at these positions, or all, as stripped text, index the row, header 1; blank rows are left out.

    Parameters
    ----------
    unnamed_ids
        Whether a header one short may lack the name of its first column, as R writes it.

    Raises
    ------
    InputError
        As :func:`read_columns`.
    """
    path = Path(path)
    names, separator = _read_header(path)
    if not unnamed_ids and names[0] == "":
        names = names[1:]
    _check_rows(path, separator, len(names))
    with _described(path), _open_text(path) as text:
        table = pd.read_csv(
            text,
            sep=separator,
            header=None,
            skiprows=1,
            names=range(len(names)),
            usecols=None if columns is None else sorted({*columns}),
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
        )
    table = table.fillna("").apply(lambda column: column.str.strip())
    table.index += 2
    table.columns = pd.Index([names[int(position)] for position in table.columns])
    return table[(table != "").any(axis=1)]
