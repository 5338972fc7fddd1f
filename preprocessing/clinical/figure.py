"""A figure of a clinical table: the survival curve of each endpoint, so that a wrong unit or coding is seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.preprocessing.clinical.layouts import DAYS_A_YEAR
from tcgn_mil.types.outcomes import SurvivalTable

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_COLOUR = "#2b5c8a"
_TICKS = 5


def draw_survival(path: str | Path, tables: Sequence[SurvivalTable]) -> None:
    """Write a PNG with one panel an endpoint: survival over years with its 95 % band, and patients at risk below.

    Kaplan & Meier, J. Am. Stat. Assoc. 1958, as lifelines fits it. Where patients enter late, Breslow's estimate of the
    same curve (Biometrics 1974), which does not fall to nothing when the first few of those at risk all have an event.
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
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)


def _draw_curve(axis: Any, table: SurvivalTable) -> None:
    from lifelines import BreslowFlemingHarringtonFitter, KaplanMeierFitter

    years = table.time_days / DAYS_A_YEAR
    if table.entry_days is None:
        entry = np.zeros_like(years)
        fitted = KaplanMeierFitter().fit(years, table.event)
    else:
        entry = table.entry_days / DAYS_A_YEAR
        fitted = BreslowFlemingHarringtonFitter().fit(years, table.event, entry=entry)
    curve, band = fitted.survival_function_.iloc[:, 0], fitted.confidence_interval_
    axis.step(curve.index, curve, where="post", color=_COLOUR)
    axis.fill_between(
        band.index, band.iloc[:, 0], band.iloc[:, 1], step="post", color=_COLOUR, alpha=0.2, lw=0
    )
    last = float(years.max())
    ticks = [
        tick
        for tick in plt.MaxNLocator(_TICKS, steps=(1, 2, 5, 10)).tick_values(0, last)
        if 0 <= tick <= last
    ]
    at_risk = [int(((years >= tick) & (entry <= tick)).sum()) for tick in ticks]
    axis.set_xticks(
        ticks, [f"{tick:g}\n{count:,}" for tick, count in zip(ticks, at_risk, strict=True)]
    )
    axis.set(xlim=(0, last * 1.02), ylim=(0, 1.02), xlabel="years\nand patients at risk")
    events = int(table.event.sum())
    axis.set_title(
        f"{table.endpoint}: {len(table):,} patients, {events:,} events ({events / len(table):.0%})\n"
        f"median time {np.median(table.time_days):,.0f} days",
        fontsize=10,
    )
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
