"""Survival curves end where few are left, and carry a tick for each censored patient."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tcgn_mil import plotting
from tcgn_mil.types.outcomes import DAYS_PER_YEAR, SurvivalTable


def outcomes(years: np.ndarray, event: np.ndarray) -> SurvivalTable:
    names = tuple(f"p{row}" for row in range(len(years)))
    return SurvivalTable("PFI", names, years * 365.25, event, pd.DataFrame(index=list(names)))


def test_a_curve_ends_where_few_are_at_risk() -> None:
    table = outcomes(np.arange(1.0, 21), np.arange(20) % 2 == 0)
    _, axes = plotting.subplots(2, 1, width=3, height=3)
    group = plotting.PatientGroup(table, "all", "black")
    drawn = plotting.kaplan_meier(axes[0], [group], ticks=np.array([0.0, 10]), below=axes[1])
    assert drawn["at_risk"].iloc[-1] == plotting.FEWEST_AT_RISK
    assert drawn["years"].iloc[-1] == 16
    assert axes[0].lines[0].get_xdata()[-1] == 16
    assert axes[0].lines[1].get_xdata().tolist() == [2, 4, 6, 8, 10, 12, 14, 16]


def test_of_a_large_group_a_tenth_must_be_left() -> None:
    table = outcomes(np.arange(1.0, 201), np.ones(200, bool))
    assert plotting.last_drawn_day(table) == 181 * DAYS_PER_YEAR  # 20 of 200 are at risk


def test_the_names_of_the_groups_stand_before_their_numbers() -> None:
    table = outcomes(np.arange(1.0, 9), np.ones(8, bool))
    _, axes = plotting.subplots(2, 1, width=3, height=3)
    groups = [plotting.PatientGroup(table, name, "red") for name in ("high", "low")]
    plotting.kaplan_meier(axes[0], groups, ticks=np.array([0.0, 4]), below=axes[1])
    assert [label.get_text() for label in axes[1].get_yticklabels()] == ["high", "low"]
    assert [text.get_text() for text in axes[1].texts] == ["8", "5", "8", "5"]
    assert axes[0].get_legend() is None
