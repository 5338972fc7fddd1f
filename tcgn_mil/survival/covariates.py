"""Covariates as numbers, and whether Cox regression can tell anything of them.

A column of text becomes an indicator for each level but the commonest, named ``stage[III]``; numbers stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.survival.gene_screen import cox_screen
from tcgn_mil.text import preview

if TYPE_CHECKING:
    import pandas as pd

    from tcgn_mil.types.outcomes import SurvivalTable

MOST_LEVELS = 20
_LEAVE_OUT = "leave it out of --covariate"


def design_matrix(covariates: pd.DataFrame) -> pd.DataFrame:
    """(M, c) float64 from columns without missing values, index kept.

    Raises
    ------
    InputError
        If a column has one value only, or more than 20 levels of text.
    """
    import pandas as pd

    parts = []
    for name in covariates.columns:
        column = covariates[name]
        if column.nunique() < 2:
            held = f"has one value ({column.iloc[0]})" if len(column) else "has no value"
            raise InputError(
                f"covariate {name} {held} in the {len(column)} patients", fix=_LEAVE_OUT
            )
        if pd.api.types.is_numeric_dtype(column):
            parts.append(column.astype(np.float64).to_frame(name))
            continue
        levels = column.astype(str).value_counts()
        if len(levels) > MOST_LEVELS:
            raise InputError(
                f"covariate {name} has {len(levels)} levels of text",
                fix=f"group them, or {_LEAVE_OUT}",
            )
        others = sorted(levels.index, key=lambda level: (-levels[level], level))[1:]
        text = column.astype(str)
        parts.append(
            pd.DataFrame(
                {f"{name}[{level}]": (text == level).astype(np.float64) for level in sorted(others)}
            )
        )
    return pd.concat(parts, axis=1) if parts else pd.DataFrame(index=covariates.index)


def numbers_where_they_are(covariates: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The chosen columns; text that is all numbers becomes numbers, empty text is missing.

    Raises
    ------
    InputError
        If there is no such column, naming those there are.
    """
    import pandas as pd

    if absent := [name for name in columns if name not in covariates.columns]:
        raise InputError(
            f"no covariate {preview(absent)}",
            fix=f"columns are {preview(list(covariates.columns))}",
        )
    chosen = covariates[list(columns)].copy()
    for name in chosen.columns:
        if not pd.api.types.is_numeric_dtype(chosen[name]):
            text = chosen[name].where(chosen[name].notna(), "").astype(str).str.strip()
            chosen[name] = text.where(text != "", None)
            numbers = pd.to_numeric(chosen[name], errors="coerce")
            if numbers.notna().equals(chosen[name].notna()):
                chosen[name] = numbers
    return chosen


def check_estimable(design: pd.DataFrame, table: SurvivalTable, *, where: str = "") -> None:
    """Refuse columns that others add up to, and columns that part the events from the rest.

    Raises
    ------
    InputError
        Naming the column, and `where` (a fold) it was seen.
    """
    values = design.to_numpy(dtype=np.float64)
    centred = values - values.mean(axis=0)
    scale = centred.std(axis=0)
    centred = centred / np.where(scale > 0, scale, 1)
    for index, name in enumerate(design.columns):
        if np.linalg.matrix_rank(centred[:, : index + 1], tol=1e-8 * np.sqrt(len(values))) <= index:
            raise InputError(
                f"covariate {name} says nothing that the others do not{where}", fix=_LEAVE_OUT
            )
    found = cox_screen(values, table.time_days, table.event, entry=table.entry_days)
    if found.separates.any():
        name = design.columns[int(np.argmax(found.separates))]
        raise InputError(
            f"Cox regression does not converge: covariate {name} separates patients with an event from those"
            f" without{where}",
            fix=f"merge the level with another one, or {_LEAVE_OUT}",
        )
