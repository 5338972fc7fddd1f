"""Tables with a row a patient, of this package or anybody else's: expression (h5ad, CSV, Parquet) and covariates.

The first column names the patients, each once. Values are checked here, so that analyses need not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.io.expression_file import _UNKNOWN, _read_table
from tcgn_mil.text import preview

if TYPE_CHECKING:
    import pandas as pd


MOST_LEVELS = 20  # of a category; more are names or a date
LEAST_PATIENTS = 3  # of a level; rarer ones have no rank to speak of


def read_covariates(
    path: str | Path,
    patients: Sequence[str],
    columns: Sequence[str] = (),
    *,
    zero_unknown: Iterable[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """Read covariates of patients: index `patients`, numbers as float64, categories as text, NaN not known.

    Parameters
    ----------
    patients
        Those of the result, in their order; of whom the table's first column must know some.
    columns
        Those wanted; all that can be used if empty.
    zero_unknown
        Columns in which a value of exactly 0 means not known, as in published purities.

    Returns
    -------
    The covariates, and a note for each column that was left out and why.

    Raises
    ------
    InputError
        If the table is missing or unreadable, repeats a patient, knows none of the patients, lacks a column, or a
        column asked for has fewer than two levels, too many to be a category, or is a number but for some cells.
    """
    import pandas as pd

    path = Path(path)
    table = _read_table(path)
    zero_unknown = tuple(zero_unknown)
    if missing := [name for name in (*columns, *zero_unknown) if name not in table.columns]:
        raise InputError(
            f"has no column {preview(missing)}",
            path=path,
            fix=f"it has {preview([*table.columns])}",
        )
    if not (shared := table.index.intersection(pd.Index(patients))).size:
        raise InputError(
            f"shares no patient: its first is {table.index[0]!r}, wanted is {patients[0]!r}",
            path=path,
            fix="let its first column name patients as the expression does",
        )
    table = table.loc[shared]
    kept, notes = {}, []
    for name in columns or table.columns:
        try:
            kept[name] = _covariate(table[name], name, zero=name in zero_unknown, path=path)
        except InputError as error:
            if columns:
                raise
            notes.append(f"{error.reason}: left out")
    if not kept:
        raise InputError(
            "has no column that can be used",
            path=path,
            fix="give numbers, or categories of few levels",
        )
    return pd.DataFrame(kept, index=table.index).reindex(list(patients)), notes


def _covariate(column: pd.Series, name: str, *, zero: bool, path: Path) -> pd.Series:
    import pandas as pd

    text = column.where(column.notna(), "").astype(str).str.strip()
    text = text.where(~text.str.lower().isin(_UNKNOWN), "")
    numbers = pd.to_numeric(text, errors="coerce").astype(float)
    wrong = (numbers.isna() | np.isinf(numbers)) & (text != "")
    if not wrong.any():
        values = numbers.where(numbers != 0) if zero else numbers
        levels = values.nunique()
    elif zero or wrong.sum() < numbers.notna().sum():
        raise InputError(
            f"column {name}, patient {column.index[wrong][0]}: {text[wrong].iloc[0][:60]!r} is no number",
            path=path,
            fix="correct it, or leave it empty where it is not known",
        )
    else:
        values = text.where(text != "")
        counts = values.value_counts()
        values = values.where(values.isin(counts.index[counts >= LEAST_PATIENTS]))
        levels = values.nunique()
        if levels > MOST_LEVELS or (levels < 2 and len(counts) > MOST_LEVELS):
            raise InputError(
                f"column {name} holds {len(counts)} different texts, too many for a category",
                path=path,
                fix=f"group them into at most {MOST_LEVELS}, or leave the column out",
            )
    if levels < 2:
        raise InputError(
            f"column {name} has {levels or 'no'} level among these patients (of a category, those of"
            f" fewer than {LEAST_PATIENTS} patients do not count)",
            path=path,
            fix="leave it out: nothing can vary with it",
        )
    return values
