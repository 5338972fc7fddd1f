"""Compare the survival of two groups of patients by the log-rank test."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tcgn_mil.types.arrays import BoolArray
from tcgn_mil.types.outcomes import SurvivalTable


class LogRank(NamedTuple):
    """Result of a log-rank test of two groups.

    Attributes
    ----------
    statistic
        Chi-squared with one degree of freedom; NaN if the groups cannot be compared.
    p
        Its p-value.
    """

    statistic: float
    p: float


def log_rank(table: SurvivalTable, high: BoolArray) -> LogRank:
    """Compare two groups by the log-rank test, allowing for late entry.

    The test is that of Mantel (Cancer Chemother. Rep. 1966).

    Parameters
    ----------
    table
        Survival times of M patients.
    high
        (M,) True for the patients of the first group, False for those of the second.

    Returns
    -------
    Statistic and p-value as statsmodels computes them. They are NaN if a group is empty, or if the
    two groups are never at risk together when an event happens.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> names = tuple("ABCDEF")
    >>> table = SurvivalTable(
    ...     "OS", names, np.array([1.0, 2, 3, 10, 11, 12]), np.ones(6, bool),
    ...     pd.DataFrame(index=list(names)),
    ... )
    >>> result = log_rank(table, np.array([True, True, True, False, False, False]))
    >>> round(result.statistic, 2), round(result.p, 3)
    (5.05, 0.025)
    """
    from scipy.stats import chi2
    from statsmodels.duration.survfunc import survdiff

    if not 0 < high.sum() < len(high):
        return LogRank(float("nan"), float("nan"))
    try:
        statistic = float(
            survdiff(table.time_days, table.event.astype(float), high, entry=table.entry_days)[0]
        )
    except np.linalg.LinAlgError:  # the variance is 0
        return LogRank(float("nan"), float("nan"))
    # survdiff's own p is 1 - cdf, which is 0 for every p below 1e-16.
    return LogRank(statistic, float(chi2.sf(statistic, 1)))
