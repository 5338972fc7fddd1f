"""Sheets of .xlsx workbooks as text: bounded in size before they are unpacked, values as saved, no formula run."""

from __future__ import annotations

import datetime
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.text import preview

SUFFIX = ".xlsx"
MAX_WORKBOOK_BYTES = 2**27  # of XML, unpacked; TCGA-CDR has 20 MB
MAX_COLUMNS, MAX_ROWS = 2000, 2**20
_READ_ERRORS = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    SyntaxError,
    zlib.error,
    zipfile.BadZipFile,
)


def read_sheet(path: str | Path, sheet: str) -> pd.DataFrame:
    """A sheet's cells as stripped text under the names in its first row, index the row; empty rows are left out.

    A formula's cell has the value that was saved with it, empty where none was.

    Raises
    ------
    InputError
        If the file is missing, no workbook, or unpacks past :data:`MAX_WORKBOOK_BYTES`; or if the sheet is absent, or
        has no rows below a header.
    """
    path = Path(path)
    with _opened(path) as book:
        if sheet not in book.sheetnames:
            known = preview(book.sheetnames, most=10)
            raise InputError(
                f"has no sheet {sheet!r}", path=path, fix=f"name one of its sheets: {known}"
            )
        page = book[sheet]
        page.reset_dimensions()  # what the file states may be wrong
        names = [
            _text(cell)
            for cell in next(page.iter_rows(values_only=True, max_row=1, max_col=MAX_COLUMNS), ())
        ]
        while names and not names[-1]:
            names.pop()
        if not names:
            raise InputError(
                f"sheet {sheet} has no header", path=path, fix="the first row names the columns"
            )
        rows = page.iter_rows(values_only=True, min_row=2, max_row=MAX_ROWS, max_col=len(names))
        filled = {
            number: cells
            for number, row in enumerate(rows, start=2)
            if any(cells := _cells(row, len(names)))
        }
    if not filled:
        raise InputError(
            f"sheet {sheet} has no rows below its header", path=path, fix="check --sheet"
        )
    return pd.DataFrame(list(filled.values()), index=list(filled), columns=names)


def _cells(row: tuple[Any, ...], width: int) -> list[str]:
    cells = [_text(cell) for cell in row[:width]]
    return cells + [""] * (width - len(cells))


def _text(cell: Any) -> str:
    """A cell as a CSV file would have it: 1355.0 as 1355, a date in ISO form."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, (datetime.date, datetime.time)):
        return cell.isoformat()
    return str(cell).strip()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The workbook, read as a stream; zipfile yields no more bytes than the sizes summed here."""
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    if not path.is_file():
        raise InputError("no such workbook", path=path, fix="check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_WORKBOOK_BYTES:
            raise InputError(
                f"unpacks to {size / 2**20:.0f} MiB",
                path=path,
                fix=f"a clinical workbook needs less than {MAX_WORKBOOK_BYTES / 2**20:.0f}; save the sheet as CSV",
            )
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            yield book
        finally:
            book.close()
    except InputError:
        raise
    except (*_READ_ERRORS, InvalidFileException) as error:
        raise InputError(
            f"cannot be read as a workbook ({type(error).__name__}: {str(error)[:150]})",
            path=path,
            fix="give .xlsx, or save the sheet as CSV UTF-8",
        ) from error
