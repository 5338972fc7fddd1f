"""Open the text of tables, plain or inside .gz and .zip files, with a limit on its size."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.archive import gzip_size, most_unpacked, too_large

MAX_TABLE_BYTES = 8 * 2**30  # bytes of unpacked text; such a table needs about 30 GB of memory
MAX_COLUMNS = 300_000  # the human transcripts are 250,000
_MAX_COMMENT_LINES = 1000


def too_wide(path: Path, columns: int) -> InputError:
    """Return the error for a table of more than `MAX_COLUMNS` columns."""
    return InputError(
        f"has {columns} columns, more than the limit of {MAX_COLUMNS}",
        path=path,
        fix="select columns, or turn the table if its genes are columns",
    )


@contextmanager
def describe_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading a table into errors for the user.

    Parameters
    ----------
    path
        The table, for the error message.

    Raises
    ------
    InputError
        If the block fails because the file cannot be read.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # csv, gzip, zipfile and pandas have errors of many classes
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot be read as a table ({reason[:200]})",
            path=path,
            fix="give UTF-8 CSV or TSV (also .gz, .zip), and copy the file again if it may be cut"
            " off",
        ) from error


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open the text of a table.

    Parameters
    ----------
    path
        A text file, a .gz file, or a .zip file that holds one file.

    Yields
    ------
    text file
        The unpacked text, read as UTF-8. The encoding utf-8-sig drops the byte order mark that
        spreadsheets write.

    Raises
    ------
    InputError
        If a .zip file holds several files.
    """
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(_only_member(archive, path)) as raw:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
    elif suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as text:
            yield text
    else:
        with path.open(encoding="utf-8-sig", newline="") as text:
            yield text


def count_comment_lines(path: Path, separators: str) -> int:
    """Count the lines that start with ``#`` above the header of a table.

    cBioPortal writes four such lines of descriptions. In other files the header itself starts with
    ``#``, alone or below lines that start with ``##``, and has as many cells as the row below it.
    Such a line is not counted.

    Parameters
    ----------
    path
        The table, which :func:`check_file` accepts.
    separators
        Characters that may separate cells.
    """
    with describe_errors(path), open_text(path) as text:
        lines: list[str] = []
        below = ""
        for below in text:
            if not below.startswith("#") or len(lines) >= _MAX_COMMENT_LINES:
                break
            lines.append(below)
    if not lines or lines[-1].startswith("##"):
        return len(lines)
    of_text = all(line.startswith("##") for line in lines[:-1])
    separator = max(separators, key=lines[-1].count)
    cells, of_row = lines[-1].count(separator), below.count(separator)
    is_header = of_text and cells > 0 and cells == of_row
    return len(lines) - is_header


def _only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """Return the single file in an archive, without the __MACOSX files that macOS adds."""
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


def check_file(path: Path) -> None:
    """Check that a table exists and does not unpack to more than its limits.

    The limits are `MAX_TABLE_BYTES`, and 200 times the size of a compressed file.

    Parameters
    ----------
    path
        The table.

    Raises
    ------
    InputError
        If the file is missing, too large, or a damaged archive.
    """
    if not path.is_file():
        raise InputError("no such table", path=path, fix="check the path")
    with describe_errors(path):
        status = path.stat()
        packed = status.st_size
        size = _unpacked_bytes(path, packed, status.st_mtime_ns)
    if path.suffix.lower() in (".gz", ".zip") and size > most_unpacked(packed):
        raise too_large(path, size, packed)
    if size > MAX_TABLE_BYTES:
        raise InputError(
            f"unpacks to more than {MAX_TABLE_BYTES / 2**30:.0f} GiB",
            path=path,
            fix="select columns, or give Parquet",
        )


@lru_cache(maxsize=1000)
def _unpacked_bytes(path: Path, packed: int, changed_ns: int) -> int:
    """Return the size of the unpacked text in bytes; computed again if the file changes.

    A gzip file does not state it reliably, so that it is counted up to the limit.
    """
    suffix = path.suffix.lower()
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return _only_member(archive, path).file_size
    if suffix != ".gz":
        return packed
    return gzip_size(path, min(MAX_TABLE_BYTES, most_unpacked(packed)))
