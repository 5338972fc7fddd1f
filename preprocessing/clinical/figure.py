"""Draw the survival curve of each endpoint of a clinical table.

A wrong time unit or a wrong coding of the events is seen at once in these curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from tcgn_mil import plotting
from tcgn_mil.plotting import PatientGroup, plain_text, save
from tcgn_mil.types.outcomes import DAYS_PER_YEAR, SurvivalTable

_TICKS = 5
_COLUMNS = 2


@plotting.styled
def draw_survival(path: str | Path, tables: Sequence[SurvivalTable]) -> None:
    """Draw one panel for each endpoint, with the numbers of patients at risk.

    Parameters
    ----------
    path
        PNG file to write.
    tables
        One table for each endpoint.
    """
    columns = min(len(tables), _COLUMNS)
    rows = math.ceil(len(tables) / columns)
    figure, axes = plotting.subplots(
        rows, columns, width=plotting.TWO_COLUMNS * columns / 2, height=2.9 * rows, squeeze=False
    )
    for axis in axes.flat[len(tables) :]:
        axis.set_axis_off()
    for axis, table in zip(axes.flat, tables, strict=False):
        _draw_curve(axis, table)
    save(figure, path)


def _draw_curve(axis: Axes, table: SurvivalTable) -> None:
    last = plotting.last_drawn_day(table) / DAYS_PER_YEAR
    ticks = plotting.year_ticks(last, MaxNLocator(_TICKS, steps=(1, 2, 5, 10)))
    group = PatientGroup(table, table.endpoint, plotting.COLOURS[0])
    plotting.kaplan_meier(axis, [group], ticks=ticks)
    axis.set(
        xlim=(0, last * 1.02),
        xlabel="time (years; ticks: censored)\nand patients at risk",
        ylabel=f"{plain_text(plotting.endpoint_label(table.endpoint))} (95 % band)",
    )
    events = int(table.event.sum())
    axis.set_title(
        f"{plain_text(table.endpoint)}: {len(table):,} patients, {events:,} events"
        f" ({events / len(table):.0%})\n"
        f"median time {np.median(table.time_days):,.0f} days,"
        f" longest {table.time_days.max() / DAYS_PER_YEAR:.1f} years"
    )
    axis.grid(alpha=0.25)
