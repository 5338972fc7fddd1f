"""Draw cost and memory of each stage over the number of slides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil import plotting

_PANELS = (("cpu_s", "CPU seconds"), ("peak_mib", "peak memory, MiB"))


@plotting.styled
def draw_chain(measured: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw two panels over the number of slides: CPU seconds, and peak memory.

    Parameters
    ----------
    measured
        Result of :func:`.chain.measure_chain`.
    path
        PNG file to write.
    """
    rows = [
        {"stage": stage, "slides": int(count), **cost}
        for stage, values in measured.items()
        for count, cost in values["sizes"].items()
    ]
    table = pd.DataFrame(rows)
    figure, axes = plotting.subplots(1, 2, width=plotting.TWO_COLUMNS, height=2.8)
    sizes = sorted(table["slides"].unique())
    for axis, (column, label) in zip(axes, _PANELS, strict=True):
        for number, (stage, part) in enumerate(table.groupby("stage", sort=False)):
            colour = plotting.COLOURS[number % len(plotting.COLOURS)]
            axis.plot(part["slides"], part[column], marker="o", color=colour, label=stage)
        axis.set_xlabel("slides")
        axis.set_ylabel(label)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.set_ylim(bottom=0)
        axis.set_xlim(left=0)
    axes[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    plotting.save_figure(figure, path, table)
