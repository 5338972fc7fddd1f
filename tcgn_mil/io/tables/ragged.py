"""Read tables whose rows may be shorter than the header, such as tables of gene sets."""

from __future__ import annotations

import csv
from pathlib import Path

from tcgn_mil.io.tables import parquet
from tcgn_mil.io.tables.text_file import check_file, describe_errors, open_text

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_PACKED = (".gz", ".zip")
SUFFIXES = (
    *(suffix + packed for suffix in _SEPARATORS for packed in ("", *_PACKED)),
    *parquet.SUFFIXES,
)


def is_table(path: str | Path) -> bool:
    """Return whether a file is a table, judged by its suffix.

    Examples
    --------
    >>> is_table("sets.CSV.gz"), is_table("sets.gmt")
    (True, False)
    """
    return Path(path).name.lower().endswith(SUFFIXES)


def read_ragged_rows(path: str | Path) -> list[list[str]]:
    """Read all rows of a table as text, the header first.

    A first column of row numbers without a name, as programs save it, is left out.

    Parameters
    ----------
    path
        CSV or TSV (also .gz or .zip), or Parquet. Cells of a CSV file may be separated by
        semicolons.

    Returns
    -------
    list of list of str
        Cells without surrounding spaces. A row may have fewer of them than the header.

    Raises
    ------
    InputError
        If the file is missing, unreadable or too large.
    """
    path = Path(path)
    if path.suffix.lower() in parquet.SUFFIXES:
        table = parquet.read_text_columns(path)
        return _without_row_numbers([list(table.columns), *table.to_numpy().tolist()])
    check_file(path)
    with describe_errors(path), open_text(path) as text:
        header = text.readline()
        text.seek(0)
        rows = list(csv.reader(text, delimiter=_separator(path, header)))
    return _without_row_numbers([[cell.strip() for cell in row] for row in rows])


def _separator(path: Path, header: str) -> str:
    own = next(mark for suffix, mark in _SEPARATORS.items() if suffix in path.name.lower())
    return own if own in header else max((own, "\t", ";", ","), key=header.count)


def _without_row_numbers(rows: list[list[str]]) -> list[list[str]]:
    if not rows or not rows[0] or rows[0][0] not in ("", "Unnamed: 0"):
        return rows
    numbers = [row[0] for row in rows[1:] if row]
    if not numbers or not all(number.isdigit() for number in numbers):
        return rows
    return [row[1:] for row in rows]
