"""Draw a joined cohort: numbers of slides and samples kept, and the values of each patient.

The left panel shows how much of the cohort was lost and why. The right panel shows a patient with
unusual values, a table in another unit, or tables that are not comparable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from tcgn_mil.plotting import save
from tcgn_mil.preprocessing.bulk.patient_join import JoinRow
from tcgn_mil.types.units import ExpressionUnit

KEPT, DROPPED = "#2b5c8a", "#b8b8b8"
QUANTILES = (5, 25, 50, 75, 95)
MAX_GENES = 2000  # evenly spaced; more would not change the quantiles visibly
MAX_REASONS = 6
MAX_NAMED_SOURCES = 12


def draw_cohort(
    path: str | Path,
    rows: Sequence[JoinRow],
    profiles: pd.DataFrame,
    sources: Sequence[str],
    unit: ExpressionUnit,
) -> None:
    """Write the figure as PNG.

    Parameters
    ----------
    path
        The file to write.
    rows
        Rows of the join report, slides and samples.
    profiles
        Patients x genes, in `unit`.
    sources
        Name of the table of each patient.
    unit
        Unit of the values. Linear units are drawn as log2(value + 1).
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 4.4), layout="constrained", gridspec_kw={"width_ratios": (1, 1.15)}
    )
    _draw_fates(left, rows)
    _draw_values(right, profiles, np.asarray(sources), unit)
    save(figure, path, dpi=110)


def fates(rows: Sequence[JoinRow]) -> list[tuple[str, int, bool]]:
    """Count kept slides and samples, and the others by reason.

    Returns
    -------
    list of (label, number, kept)
        Slides, then samples. Of each the kept ones come first, then the reasons by frequency.
    """
    counts = []
    for kind in ("slide", "sample"):
        of_kind = [row for row in rows if row.kind == kind]
        if not of_kind:
            continue
        counts.append((f"{kind}s kept", sum(row.kept for row in of_kind), True))
        reasons = Counter(row.reason for row in of_kind if not row.kept).most_common()
        counts += [
            (f"{kind}s: {reason}", number, False) for reason, number in reasons[:MAX_REASONS]
        ]
        if rest := sum(number for _, number in reasons[MAX_REASONS:]):
            counts.append((f"{kind}s: {len(reasons) - MAX_REASONS} other reasons", rest, False))
    return counts


def _draw_fates(axis: Any, rows: Sequence[JoinRow]) -> None:
    bars = fates(rows)
    places = np.arange(len(bars))
    colours = [KEPT if kept else DROPPED for *_, kept in bars]
    axis.barh(places, [number for _, number, _ in bars], height=0.35, color=colours)
    for place, (label, number, kept) in enumerate(bars):
        axis.text(
            0,
            place - 0.2,
            f"{label}: {number:,}",
            fontsize=9,
            va="bottom",
            weight="bold" if kept else None,
        )
    axis.set(
        yticks=[],
        ylim=(len(bars) - 0.3, -0.9),
        xlabel="number",
        title="slides and samples, kept and left out (join_report.csv)",
    )
    axis.spines[["top", "right", "left"]].set_visible(False)


def _short(name: str) -> str:
    stem = name.split(".")[0]
    return stem if len(stem) <= 24 else f"{stem[:23]}…"


def patient_quantiles(profiles: pd.DataFrame, unit: ExpressionUnit) -> NDArray[np.float64]:
    """Return (5, M) quantiles of the values of M patients, as log2(value + 1) for a linear unit."""
    step = max(1, profiles.shape[1] // MAX_GENES)
    values = profiles.to_numpy(dtype=np.float64)[:, ::step]
    values = np.log2(values + 1) if unit.is_linear else values
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nanpercentile(values, QUANTILES, axis=1))


def _draw_values(
    axis: Any, profiles: pd.DataFrame, sources: NDArray[np.str_], unit: ExpressionUnit
) -> None:
    quantiles = patient_quantiles(profiles, unit)
    order = np.lexsort((quantiles[2], sources))
    low, lower, middle, upper, high = quantiles[:, order]
    places = np.arange(len(order))
    axis.fill_between(
        places, low, high, step="mid", color=KEPT, alpha=0.15, lw=0, label="5 to 95 % of genes"
    )
    axis.fill_between(
        places, lower, upper, step="mid", color=KEPT, alpha=0.35, lw=0, label="25 to 75 %"
    )
    axis.step(places, middle, where="mid", color=KEPT, lw=1, label="median")
    names, starts = np.unique(sources[order], return_index=True)
    for start in starts[1:]:
        axis.axvline(start - 0.5, color="black", lw=0.6)
    ends = [*starts[1:], len(order)]
    if 1 < len(names) <= MAX_NAMED_SOURCES:
        middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
        axis.set_xticks(
            middles, [_short(name) for name in names], rotation=25, ha="right", fontsize=7
        )
    label = f"log2({unit} + 1)" if unit.is_linear else str(unit)
    axis.set(
        xlim=(-0.5, len(order) - 0.5),
        ylabel=label,
        xlabel=f"{len(order):,} patients, by table and median",
        title=f"values of {profiles.shape[1]:,} genes in each patient",
    )
    axis.legend(fontsize=8, framealpha=1, edgecolor="none", ncols=3, loc="upper left")
    axis.margins(y=0.15)
    axis.spines[["top", "right"]].set_visible(False)
