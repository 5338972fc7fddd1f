"""Write text cells of CSV tables so that a spreadsheet does not run them as formulas.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, which can
start programs or send data to another machine (OWASP: CSV injection). An apostrophe before such a
cell makes it text. The readers of this package take it away, so that every name is the same again.
Numbers are never changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Signs alone, as in the GDC's '-- for a missing value, are no formula.
_FORMULA = re.compile(r"(?='*[=+\-@\t\r])(?!'*[+\-]+$)")
_ESCAPED = re.compile(r"'(?='*[=+\-@\t\r])(?!'*[+\-]+$)")


def escape_cell(cell: object) -> object:
    """Return a cell as it is written: text that would be a formula gets an apostrophe before it.

    Examples
    --------
    >>> [escape_cell(cell) for cell in ("=1+1", "GZMA", "-1.5", "--", -1.5, "'=x")]
    ["'=1+1", 'GZMA', '-1.5', '--', -1.5, "''=x"]
    """
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _is_number(cell):
        return cell
    return f"'{cell}"


def restore_cell(cell: object) -> object:
    """Return the cell that :func:`escape_cell` was given.

    Examples
    --------
    >>> [restore_cell(cell) for cell in ("'=1+1", "GZMA", "'--", "''=x", "'quoted'")]
    ['=1+1', 'GZMA', "'--", "'=x", "'quoted'"]
    """
    if isinstance(cell, str) and cell.startswith("'") and _ESCAPED.match(cell):
        return cell[1:]
    return cell


def escape_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose text cells, index and column names are escaped."""
    return _changed(table, escape_cell, "'=+-@\t\r")


def restore_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose text cells, index and column names are restored."""
    return _changed(table, restore_cell, "'")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _changed(table: pd.DataFrame, change: Callable[[object], object], first: str) -> pd.DataFrame:
    """Change the text that begins with one of the characters `first`; all else stays as it is."""

    def concerns(values: pd.Series | pd.Index) -> bool:
        if str(values.dtype) not in ("object", "str", "string", "category"):
            return False
        return any(type(value) is str and value[:1] in first and value for value in values)

    changed = {
        place: column.astype(object).map(change)
        for place, dtype in enumerate(table.dtypes)
        if dtype.kind == "O" and concerns(column := table.iloc[:, place])
    }
    if changed:
        import pandas as pd

        parts = [changed.get(place, table.iloc[:, place]) for place in range(table.shape[1])]
        table = pd.concat(parts, axis=1)
    if table.index.nlevels == 1 and concerns(table.index):
        table = table.set_axis(table.index.map(change).rename(table.index.name), axis=0)
    if table.columns.nlevels == 1 and concerns(table.columns):
        table = table.set_axis(table.columns.map(change).rename(table.columns.name), axis=1)
    return table
