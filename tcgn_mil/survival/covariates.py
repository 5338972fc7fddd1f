"""Turn clinical covariates into numbers, and check that Cox regression can estimate their effects.

A text column becomes an indicator for each level except the most frequent one, named like
``stage[III]``. Numeric columns stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.text_numbers import numbers_or_text
from tcgn_mil.survival.gene_screen import cox_screen
from tcgn_mil.text import counted, preview
from tcgn_mil.types.arrays import BoolArray
from tcgn_mil.types.outcomes import MAX_LEVELS

if TYPE_CHECKING:
    import pandas as pd

    from tcgn_mil.types.outcomes import SurvivalTable

# A level with fewer patients is rare: a training part of five folds may lack it. So is a small one
# with few events. A large level without events is no accident, and check_estimable refuses it.
MIN_LEVEL_PATIENTS, SMALL_LEVEL_PATIENTS, MIN_LEVEL_EVENTS = 5, 10, 2
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


def numeric_where_possible(
    covariates: pd.DataFrame, columns: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return selected columns, with text that holds only numbers turned into numbers.

    Parameters
    ----------
    covariates
        Covariates as read from a file. Empty text counts as missing, and among numbers so do words
        such as ``NA``.
    columns
        Names of the columns to select.

    Returns
    -------
    The columns; and a note on each column in which numbers are read as categories.

    Raises
    ------
    InputError
        If a column does not exist, with a list of those that do; or if a cell among numbers is not
        a number.
    """
    import pandas as pd

    if absent := [name for name in columns if name not in covariates.columns]:
        raise InputError(
            f"there is no covariate {preview(absent)}",
            fix=f"choose from the columns {preview(list(covariates.columns))}",
        )
    chosen = covariates[list(dict.fromkeys(columns))].copy()  # a column named twice counts once
    notes = []
    for name in chosen.columns:
        if not pd.api.types.is_numeric_dtype(chosen[name]):
            parsed = numbers_or_text(chosen[name], str(name))
            chosen[name] = parsed.values
            notes += [parsed.note] if parsed.note else []
    return chosen, notes


class MergedLevels(NamedTuple):
    """Covariates without rare levels.

    Attributes
    ----------
    covariates
        The columns, in which rare levels are merged or missing.
    notes
        A sentence for each column with rare levels.
    too_rare
        Reason for each patient whose level could not be merged with another one.
    """

    covariates: pd.DataFrame
    notes: list[str]
    too_rare: dict[str, str]


def merge_rare_levels(covariates: pd.DataFrame, event: BoolArray) -> MergedLevels:
    """Merge levels of text that have too few patients or events for a regression in each fold.

    A level that a training part lacks, or in which it has no event, has no finite coefficient. Rare
    levels of a covariate become one level ``other (...)``. If this is rare as well, its patients
    have no value.

    Parameters
    ----------
    covariates
        M rows, indexed by patient.
    event
        (M,) whether the event was observed.

    Examples
    --------
    >>> import pandas as pd
    >>> stage = pd.DataFrame({"stage": ["I"] * 9 + ["II"] * 9 + ["III"] * 4 + ["IV"] * 3})
    >>> merge_rare_levels(stage, np.ones(25, bool)).notes[0]
    'covariate stage: rare levels III (4 patients, 4 events), IV (3 patients, 3 events) are merged'
    """
    import pandas as pd

    merged, notes, too_rare = covariates.copy(), [], {}
    for name in covariates.columns:
        column = covariates[name]
        if pd.api.types.is_numeric_dtype(column) or column.nunique() > MAX_LEVELS:
            continue
        counts = {str(level): int(count) for level, count in column.value_counts().items()}
        events = {level: int(event[(column == level).to_numpy()].sum()) for level in counts}
        rare = sorted(
            level
            for level, count in counts.items()
            if count < MIN_LEVEL_PATIENTS
            or (count < SMALL_LEVEL_PATIENTS and events[level] < MIN_LEVEL_EVENTS)
        )
        if not rare or len(counts) < 2:
            continue
        said = ", ".join(
            f"{level} ({counted(counts[level], 'patient')}, {counted(events[level], 'event')})"
            for level in rare
        )
        held = column.isin(rare)
        usable = (
            len(rare) > 1
            and sum(counts[level] for level in rare) >= MIN_LEVEL_PATIENTS
            and sum(events[level] for level in rare) >= MIN_LEVEL_EVENTS
        )
        merged[name] = column.where(~held, f"other ({', '.join(rare)})" if usable else None)
        what = "are merged" if usable else "are too rare, and their patients are left out"
        notes.append(f"covariate {name}: rare levels {said} {what}")
        if not usable:
            reason = f"its level of covariate {name} is too rare"
            too_rare.update(dict.fromkeys(map(str, column.index[held]), reason))
    return MergedLevels(merged, notes, too_rare)


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
