"""Read sheets of Excel workbooks (.xlsx) as text.

The size is bounded before the workbook is unpacked, because a small .xlsx file can unpack to many
gigabytes. Formulas are not evaluated; their cells have the values that were saved with them.
"""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.extras import need_extra
from tcgn_mil.text import preview

SUFFIX = ".xlsx"
MAX_WORKBOOK_BYTES = 2**27  # bytes of unpacked XML; the workbook of TCGA-CDR has 20 MB
_SMALL_CELLS, _CHUNK_BYTES = 50_000, 2**22
MAX_COLUMNS, MAX_ROWS = 2000, 2**20  # 2**20 rows is the limit of the format


def read_sheet(path: str | Path, sheet: str) -> pd.DataFrame:
    """Read a sheet as text.

    Parameters
    ----------
    path
        The workbook.
    sheet
        Name of the sheet.

    Returns
    -------
    DataFrame
        Cells without surrounding spaces, under the names in the first row. The index is the number
        of the row in the sheet. Empty rows are left out. A formula whose value was not saved is an
        empty string.

    Raises
    ------
    InputError
        If the file is missing, is not a workbook, or unpacks to more than `MAX_WORKBOOK_BYTES`; or
        if the sheet is missing or has no row below its header.
    """
    path = Path(path)
    with _open_workbook(path) as book:
        if sheet not in book.sheetnames:
            raise InputError(
                f"has no sheet {sheet!r}",
                path=path,
                fix=f"name one of its sheets: {preview(book.sheetnames, most=10)}",
            )
        page = book[sheet]
        # The dimensions that the file states may be wrong, and openpyxl would then drop cells.
        page.reset_dimensions()
        names = [
            _cell_text(cell)
            for cell in next(page.iter_rows(values_only=True, max_row=1, max_col=MAX_COLUMNS), ())
        ]
        while names and not names[-1]:
            names.pop()
        if not names:
            raise InputError(
                f"sheet {sheet} has no header",
                path=path,
                fix="name the columns in the first row of the sheet",
            )
        rows = page.iter_rows(values_only=True, min_row=2, max_row=MAX_ROWS, max_col=len(names))
        filled = {
            number: cells
            for number, row in enumerate(rows, start=2)
            if any(cells := _row_text(row, len(names)))
        }
    if not filled:
        raise InputError(
            f"sheet {sheet} has no rows below its header", path=path, fix="check --sheet"
        )
    return pd.DataFrame(list(filled.values()), index=list(filled), columns=names)


def _row_text(row: tuple[Any, ...], width: int) -> list[str]:
    cells = [_cell_text(cell) for cell in row[:width]]
    return cells + [""] * (width - len(cells))


def _cell_text(cell: Any) -> str:
    """Return a cell as a CSV file would have it: 1355.0 as 1355, and a date in ISO form."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, (datetime.date, datetime.time)):
        return cell.isoformat()
    return str(cell).strip()


def _check_cells(path: Path) -> None:
    """Refuse a workbook with far more cells than its size suggests, before its XML is parsed.

    A cell of a real workbook takes several bytes of the compressed file, and one is the limit.
    Counting takes a hundredth of the time of parsing.
    """
    most = max(_SMALL_CELLS, path.stat().st_size)
    count = 0
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.startswith("xl/worksheets/"):
                with archive.open(entry) as sheet:
                    while chunk := sheet.read(_CHUNK_BYTES):
                        count += chunk.count(b"<c ") + chunk.count(b"<c/") + chunk.count(b"<row")
    if count > most:
        raise InputError(
            f"holds {count} cells in {path.stat().st_size} bytes; the limit is {most}",
            path=path,
            fix="save the sheet as CSV",
        )


@contextmanager
def _open_workbook(path: Path) -> Iterator[Any]:
    """Open a workbook as a stream.

    The sizes in the directory of the zip archive can be trusted as a bound: zipfile never yields
    more bytes of a file than its size there.
    """
    if not path.is_file():
        raise InputError("no such workbook", path=path, fix="check the path")
    need_extra("openpyxl", "reading an Excel workbook", path=path)
    import openpyxl

    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_WORKBOOK_BYTES:
            raise InputError(
                f"unpacks to {size / 2**20:.0f} MiB, more than the limit of"
                f" {MAX_WORKBOOK_BYTES / 2**20:.0f} MiB",
                path=path,
                fix="save the sheet as CSV",
            )
        _check_cells(path)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            yield book
        finally:
            book.close()
    except InputError:
        raise
    except Exception as error:  # openpyxl lets the errors of many parts through
        raise InputError(
            f"cannot be read as a workbook ({type(error).__name__}: {str(error)[:150]})",
            path=path,
            fix="give an .xlsx file, or save the sheet as CSV UTF-8",
        ) from error
