"""Draw the survival curve of each endpoint of a clinical table.

A wrong time unit or a wrong coding of the events is seen at once in these curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tcgn_mil.plotting import PatientGroup, kaplan_meier, save, year_ticks
from tcgn_mil.types.outcomes import DAYS_PER_YEAR, SurvivalTable

_COLOUR = "#2b5c8a"
_TICKS = 5


def draw_survival(path: str | Path, tables: Sequence[SurvivalTable]) -> None:
    """Draw one panel for each endpoint, with the numbers of patients at risk.

    Parameters
    ----------
    path
        PNG file to write.
    tables
        One table for each endpoint.
    """
    figure, axes = plt.subplots(
        1,
        len(tables),
        figsize=(4.2 * len(tables) + 0.4, 4.2),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    for axis, table in zip(axes[0], tables, strict=True):
        _draw_curve(axis, table)
    axes[0, 0].set_ylabel("without the event (95 % band)")
    save(figure, path)


def _draw_curve(axis: Axes, table: SurvivalTable) -> None:
    last = float(table.time_days.max()) / DAYS_PER_YEAR
    ticks = year_ticks(last, MaxNLocator(_TICKS, steps=(1, 2, 5, 10)))
    group = PatientGroup(table, table.endpoint, _COLOUR)
    kaplan_meier(axis, [group], ticks=ticks)
    axis.set(xlim=(0, last * 1.02), xlabel="years\nand patients at risk")
    events = int(table.event.sum())
    axis.set_title(
        f"{table.endpoint}: {len(table):,} patients, {events:,} events"
        f" ({events / len(table):.0%})\n"
        f"median time {np.median(table.time_days):,.0f} days",
        fontsize=10,
    )
    axis.grid(alpha=0.25)
