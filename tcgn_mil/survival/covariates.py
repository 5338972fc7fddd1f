"""Turn clinical covariates into numbers, and check that Cox regression can estimate their effects.

A text column becomes an indicator for each level except the most frequent one, named like
``stage[III]``. Numeric columns stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.survival.gene_screen import cox_screen
from tcgn_mil.text import preview
from tcgn_mil.types.outcomes import MAX_LEVELS

if TYPE_CHECKING:
    import pandas as pd

    from tcgn_mil.types.outcomes import SurvivalTable

_LEAVE_OUT = "remove it from --covariate"


def design_matrix(covariates: pd.DataFrame) -> pd.DataFrame:
    """Return numeric columns for a regression.

    Parameters
    ----------
    covariates
        M rows without missing values.

    Returns
    -------
    (M, c) float64 with the same index.

    Raises
    ------
    InputError
        If a column has only one value, or more than 20 levels of text.

    Examples
    --------
    >>> import pandas as pd
    >>> design_matrix(pd.DataFrame({"age": [60, 71, 55], "stage": ["II", "II", "III"]}))
        age  stage[III]
    0  60.0         0.0
    1  71.0         0.0
    2  55.0         1.0
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
        text = column.astype(str)
        counts = {str(level): int(count) for level, count in text.value_counts().items()}
        if len(counts) > MAX_LEVELS:
            raise InputError(
                f"covariate {name} has {len(counts)} levels of text, more than {MAX_LEVELS}",
                fix=f"group the levels, or {_LEAVE_OUT}",
            )
        # The most frequent level is the reference, since comparisons with a rare level are
        # imprecise. Ties go to the first level in alphabetical order.
        others = sorted(counts, key=lambda level: (-counts[level], level))[1:]
        parts.append(
            pd.DataFrame(
                {f"{name}[{level}]": (text == level).astype(np.float64) for level in sorted(others)}
            )
        )
    return pd.concat(parts, axis=1) if parts else pd.DataFrame(index=covariates.index)


def numeric_where_possible(covariates: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return selected columns, with text that holds only numbers turned into numbers.

    Parameters
    ----------
    covariates
        Covariates as read from a file. Empty text counts as missing.
    columns
        Names of the columns to select.

    Raises
    ------
    InputError
        If a column does not exist. The message lists those that do.
    """
    import pandas as pd

    if absent := [name for name in columns if name not in covariates.columns]:
        raise InputError(
            f"there is no covariate {preview(absent)}",
            fix=f"choose from the columns {preview(list(covariates.columns))}",
        )
    chosen = covariates[list(dict.fromkeys(columns))].copy()  # a column named twice counts once
    for name in chosen.columns:
        if not pd.api.types.is_numeric_dtype(chosen[name]):
            text = chosen[name].where(chosen[name].notna(), "").astype(str).str.strip()
            chosen[name] = text.where(text != "", None)
            numbers = pd.to_numeric(chosen[name], errors="coerce")
            if numbers.notna().equals(chosen[name].notna()):
                chosen[name] = numbers
    return chosen


def check_estimable(design: pd.DataFrame, table: SurvivalTable, *, where: str = "") -> None:
    """Raise an error if Cox regression on these covariates has no finite solution.

    There is none if a column is a linear combination of earlier columns, or if a column separates
    the patients with an event from those without (its coefficient would be infinite).

    Parameters
    ----------
    design
        (M, c) numeric covariates.
    table
        Survival times of the M patients.
    where
        Text to append to the message, for example `` in fold 2``.

    Raises
    ------
    InputError
        If a column cannot be estimated. The message names it.
    """
    values = design.to_numpy(dtype=np.float64)
    centred = values - values.mean(axis=0)
    scale = centred.std(axis=0)
    centred = centred / np.where(scale > 0, scale, 1)
    for index, name in enumerate(design.columns):
        # Columns are added one by one, so that the message names the first redundant one.
        if np.linalg.matrix_rank(centred[:, : index + 1], tol=1e-8 * np.sqrt(len(values))) <= index:
            raise InputError(
                f"covariate {name} is a linear combination of the other covariates{where}",
                fix=_LEAVE_OUT,
            )
    screen = cox_screen(values, table.time_days, table.event, entry=table.entry_days)
    if screen.separates.any():
        name = design.columns[int(np.argmax(screen.separates))]
        raise InputError(
            f"Cox regression does not converge: covariate {name} separates patients with an event"
            f" from those without{where}",
            fix=f"merge this level with another one, or {_LEAVE_OUT}",
        )
