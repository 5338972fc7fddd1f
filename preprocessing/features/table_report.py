"""Report the columns of an imported table: roles, missing values, constants, heavy tails.

A column has a heavy tail if its 1 % or its 99 % quantile is more than :data:`TAIL_RANGES` times the
interquartile range away from the median. In a normal distribution this distance is 1.7 ranges, in
an exponential one 3.6, and in a log-normal one whose logarithm has a standard deviation of 1 it is
6.4. Quantiles are used because moments, such as the kurtosis, follow single values.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.preprocessing.features.table_columns import (
    FEATURE,
    LEFT_OUT,
    PATIENT,
    SLIDE,
    TableColumns,
)
from tcgn_mil.text import counted, preview

_MISSING = "with missing values"
TAIL_RANGES = 5.0
_FEWEST_VALUES = 20  # for a judgement of tails
_LINES_OF_COLUMNS = 12  # left-out columns that get a line of their own


def column_report(
    table: pd.DataFrame, columns: TableColumns, values: NDArray[np.float32]
) -> pd.DataFrame:
    """Describe each column of a table.

    Parameters
    ----------
    table
        The table as it was read.
    columns
        Roles of its columns.
    values
        (N, D) features of the different slides.

    Returns
    -------
    pandas.DataFrame
        One row for each column, in the order of the table: ``column``, ``role``, ``reason``,
        ``missing`` (number of cells), ``constant`` (all known values are equal), ``duplicate_of``
        (the first feature, in the order of names, that has the same values) and ``heavy_tail``.
    """
    of_features = dict(zip(columns.features, values.T, strict=True))
    duplicate_of = _duplicates(of_features)
    rows = []
    for name in map(str, table.columns):
        role, reason = columns.roles[name]
        column = pd.Series(of_features[name]) if role == FEATURE else table[name]
        rows.append(
            {
                "column": name,
                "role": role,
                "reason": reason,
                "missing": int(column.isna().sum()),
                "constant": column.nunique() == 1,
                "duplicate_of": duplicate_of.get(name, ""),
                "heavy_tail": role == FEATURE and has_heavy_tail(of_features[name]),
            }
        )
    return pd.DataFrame(rows)


def has_heavy_tail(values: NDArray[np.floating]) -> bool:
    """Return whether a column has a heavy tail, as the module describes.

    A column with fewer than 20 known values, or with two different ones, has none.

    Examples
    --------
    >>> normal = np.random.default_rng(0).standard_normal(1000)
    >>> has_heavy_tail(normal), has_heavy_tail(np.exp(2 * normal))
    (False, True)
    """
    known = values[~np.isnan(values)].astype(np.float64)
    if len(known) < _FEWEST_VALUES or len(np.unique(known)) <= 2:
        return False
    low, first, median, third, high = np.quantile(known, [0.01, 0.25, 0.5, 0.75, 0.99])
    return bool(max(high - median, median - low) > TAIL_RANGES * (third - first))


def _duplicates(features: dict[str, NDArray[np.float32]]) -> dict[str, str]:
    """Return the earlier column with the same values, for each column that has one."""
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for name, values in features.items():
        if np.isnan(values).all():
            continue
        # Zero has two signs and NaN many bit patterns; equal values have to have equal bytes.
        key = np.where(np.isnan(values), np.float32("nan"), values + np.float32(0)).tobytes()
        if (earlier := first.setdefault(key, name)) != name:
            same[name] = earlier
    return same


def describe_columns(
    report: pd.DataFrame, columns: TableColumns, *, patients_given: bool
) -> list[str]:
    """Return one line for each decision about the columns, for the user."""
    roles = report.set_index("column")
    lines = []
    for role in (SLIDE, PATIENT):
        for name, reason in roles.loc[roles["role"] == role, "reason"].items():
            lines.append(f"{role}s: column {name!r} ({reason})")
    if columns.patient is None:
        source = "--patients" if patients_given else "the names of the slides"
        lines.append(
            f"patients: from {source}"
            + ("" if patients_given else "; a name that is no TCGA barcode is a patient of its own")
        )
    left_out = roles.loc[roles["role"] == LEFT_OUT, "reason"]
    for name, reason in left_out.iloc[:_LINES_OF_COLUMNS].items():
        lines.append(f"left out: column {name!r} ({reason})")
    if len(left_out) > _LINES_OF_COLUMNS:
        lines.append(f"left out: {len(left_out) - _LINES_OF_COLUMNS} more, see columns.csv")
    features = roles[roles["role"] == FEATURE]
    lines.append(f"features: {counted(len(features), 'column')}")
    kept = {
        _MISSING: features["missing"] > 0,
        "constant": features["constant"],
        "equal to another": features["duplicate_of"] != "",
    }
    for what, chosen in kept.items():
        if chosen.any():
            names = preview([str(name) for name in features.index[chosen]], most=2)
            cells = features["missing"].sum() if what == _MISSING else 0
            count = f", {counted(cells, 'cell')}" if cells else ""
            lines.append(
                f"kept although {what}: {counted(chosen.sum(), 'column')}{count} ({names})"
            )
    heavy = [str(name) for name in features.index[features["heavy_tail"]]]
    if heavy:
        lines.append(
            f"heavy tails: {counted(len(heavy), 'column')} ({preview(heavy, most=2)}), whose 1 % or"
            f" 99 % quantile is over {TAIL_RANGES:g} interquartile ranges from the median; by"
            " default the slide model reads ranks, so that they need no transformation"
        )
    return lines
