"""Decide whether a comma in the cells of a table marks decimals.

Spreadsheets of many countries write ``0,4`` and separate cells by semicolons or tabs. A comma is a
decimal mark if it cannot be anything else: the cells are separated by another character, every
value is a whole number or has one comma, none has a point, and some value cannot be a number with
marks of thousands, as ``1,500`` could.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from tcgn_mil.text import preview

_WHOLE = re.compile(r"[-+]?\d+")
_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
_POINT = re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+")
SEPARATORS = ";\t"


def has_commas(cells: Iterable[str]) -> str:
    """Return the first number with a comma, whatever the comma means; empty if there is none.

    Examples
    --------
    >>> has_commas(["7", "1,500", "0,4"])
    '1,500'
    """
    return next(
        (cell for cell in cells if _COMMA.fullmatch(cell) or _THOUSANDS.fullmatch(cell)), ""
    )


def contradiction(cells: Iterable[str]) -> str | None:
    """Return what speaks against commas as decimal marks, among numbers of which some have one.

    Returns
    -------
    str or None
        A number with a point; an empty text if every comma may mark thousands; None if nothing
        speaks against decimal marks.

    Examples
    --------
    >>> contradiction(["1,5", "2.25"]), contradiction(["1,500"]), contradiction(["1,500", "0,123"])
    ('2.25', '', None)
    """
    cells = list(cells)
    if points := [cell for cell in cells if _POINT.fullmatch(cell)]:
        return points[0]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell) or _THOUSANDS.fullmatch(cell)]
    return "" if all(_THOUSANDS.fullmatch(cell) for cell in commas) else None


def with_points(
    table: pd.DataFrame, separator: str, missing: Iterable[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Write decimal points in the columns of text whose commas are decimal marks.

    Parameters
    ----------
    table
        Cells; columns of numbers are left as they are.
    separator
        What separates the cells in the file. Nothing is changed unless it is a semicolon or a tab.
    missing
        Cells that mean a missing value, in lower case.

    Returns
    -------
    table : DataFrame
        The cells, still as text.
    names : list of str
        Names of the columns that were changed.

    Examples
    --------
    >>> cells = pd.DataFrame({"purity": ["0,4", "NA", "1"], "stage": ["I", "II", "I"]})
    >>> table, names = with_points(cells, ";", ["na"])
    >>> names, table["purity"].tolist()
    (['purity'], ['0.4', 'NA', '1'])
    """
    if not separator or separator not in SEPARATORS:
        return table, []
    missing = frozenset(missing)
    changed: dict[str, pd.Series] = {}
    for name, column in table.items():
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            continue
        text = column.where(column.notna(), "").astype(str).str.strip()
        values = [cell for cell in text if cell.lower() not in missing]
        plain = all(_WHOLE.fullmatch(cell) or _COMMA.fullmatch(cell) for cell in values)
        if plain and has_commas(values) and contradiction(values) is None:
            changed[str(name)] = column.where(
                column.isna() | text.str.lower().isin(missing), text.str.replace(",", ".")
            )
    return table.assign(**changed), [*changed]


def commas_note(names: Iterable[str]) -> str:
    """Return the sentence on columns that were read with decimal commas.

    Examples
    --------
    >>> commas_note(["purity"])
    'the commas in column purity are read as decimal points'
    """
    names = list(names)
    return (
        f"the commas in column{'s' * (len(names) > 1)} {preview(names)} are read as decimal points"
    )
