"""Tell columns of numbers from columns of categories, in tables that hold both as text.

A number that is written in another way (``0,4``, ``30%``, ``<5``) makes a whole column look like
text. Read as categories, such a column would have a level for nearly every patient, or for a few of
them. It is refused with the cell, or at least named.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.text import preview

# Cells that mean that a value is missing, in lower case: those of TCGA, of statistics programs, and
# the errors that a spreadsheet leaves where a formula failed.
MISSING = frozenset(
    (
        "",
        ".",
        "--",
        "'--",
        "na",
        "n/a",
        "nan",
        "null",
        "none",
        "unknown",
        "not available",
        "not reported",
        "[not available]",
        "[not applicable]",
        "[not evaluated]",
        "[unknown]",
        "[discrepancy]",
        "[completed]",
        "[pending]",
        "#n/a",
        "#value!",
        "#ref!",
        "#div/0!",
        "#name?",
        "#num!",
        "#null!",
    )
)
_BOUND = re.compile(r"(?:[<>≤≥~]=?|=)\s*[+-]?\d+(?:[.,]\d+)?\s*%?")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*%?")
_PERCENT = re.compile(r"[+-]?\d+(?:\.\d+)?\s*%")
_EMPTY_FIX = "correct the cell, or leave it empty if the value is not known"


class ParsedColumn(NamedTuple):
    """A column as numbers or as text.

    Attributes
    ----------
    values
        float64 with NaN for a missing value, or text with None for an empty cell. Words that mean a
        missing value, such as ``NA``, stay in a column of text.
    note
        Sentence for the user; empty if there is nothing to say.
    """

    values: pd.Series
    note: str = ""


def numbers_or_text(
    column: pd.Series, name: str, *, path: Path | None = None, only_numbers: bool = False
) -> ParsedColumn:
    """Return a column as numbers if its cells are numbers, and otherwise as text.

    Parameters
    ----------
    column
        Cells, indexed by patient.
    name
        Name of the column, for messages.
    path
        File of the column, for messages.
    only_numbers
        Whether text is refused.

    Raises
    ------
    InputError
        If most cells are numbers and another one is not, or if numbers have a decimal comma, a per
        cent sign or a bound. The message names the first such cell and its patient.

    Examples
    --------
    >>> numbers_or_text(pd.Series(["61", "NA", "70.5"]), "age").values.tolist()
    [61.0, nan, 70.5]
    >>> numbers_or_text(pd.Series(["0,4", "0,7"], index=["A", "B"]), "purity")
    Traceback (most recent call last):
    ...
    tcgn_mil.errors.InputError: column purity, patient A: '0,4' is not a number. Fix: ...
    """
    text = column.where(column.notna(), "").astype(str).str.strip()
    numbers = pd.to_numeric(text.mask(text.str.lower().isin(MISSING), ""), errors="coerce")
    numbers = numbers.astype(np.float64)
    present = ~text.str.lower().isin(MISSING)
    other = present & ~np.isfinite(numbers)
    if not other.any():
        return ParsedColumn(numbers)
    bounds, commas, percents = (
        other & text.map(lambda cell, form=form: form.fullmatch(cell) is not None)
        for form in (_BOUND, _DECIMAL_COMMA, _PERCENT)
    )
    disguised = bounds | commas | percents
    as_numbers = int(np.isfinite(numbers).sum() + disguised.sum())
    words = int((other & ~disguised).sum())
    # "<50" and ">=50" alone are two groups of patients. Beside numbers, "<5" is a measurement below
    # the limit of detection.
    of_groups = bool(bounds.any()) and int(bounds.sum()) == as_numbers
    if only_numbers or (as_numbers > words and not of_groups):
        wrong = disguised if disguised.any() else other
        cell = str(text[wrong].iloc[0])[:60]
        raise InputError(
            f"column {name}, patient {column.index[wrong][0]}: {cell!r} is not a number",
            path=path,
            fix=_fix_of(cell),
        )
    note = ""
    if disguised.any():
        shown = preview(list(dict.fromkeys(text[disguised])), most=3)
        note = f"column {name} holds {shown}, and is read as categories, not as numbers"
    return ParsedColumn(text.where(text != "", None), note)


def _fix_of(cell: str) -> str:
    if _BOUND.fullmatch(cell):
        return (
            "write the number that the analysis should use in all such cells, or leave them empty"
        )
    if _DECIMAL_COMMA.fullmatch(cell):
        return "write numbers with a decimal point in the whole column, for example 0.4"
    if _PERCENT.fullmatch(cell):
        return "write numbers without the per cent sign in the whole column"
    return _EMPTY_FIX
