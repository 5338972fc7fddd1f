"""Save figures reproducibly, and draw survival curves.

A result figure consists of three files: a PNG for the screen, a PDF for print, and a CSV table of
the values that are drawn. Maps of slides are a PNG alone, because their values are in other files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tcgn_mil.io.atomic import atomic_path, write_csv
from tcgn_mil.types.outcomes import DAYS_PER_YEAR, SurvivalTable

matplotlib.use("Agg")  # draws without a display
# Names of genes and slides may hold dollar signs, between which matplotlib would read a formula;
# one that it cannot read, such as $x_$, would end the command.
matplotlib.rcParams["text.parse_math"] = False

DPI = 120
MAX_VECTORS = 4000  # PDF viewers become slow when a figure has more separate points than this
PNG_COMPRESSION = 3  # 0 to 9; half the time of the usual 6, for files that are a tenth larger
COLOURS = ("#1b5e9e", "#d1662b", "#7a7a7a", "#3f8f5b", "#8d5ba5", "#b5a21e", "#4aa3b5")
_PDF_DPI = 300  # resolution of the parts of a PDF that are stored as pixels
# Years are days divided by 365.25. Multiplied again, they may be rounded up past the day of an
# event, and the patient of that event would no longer count as at risk.
_JUST_BELOW = 1 - 1e-12


def save(figure: Figure, path: str | Path, *, dpi: int = DPI) -> None:
    """Write a figure as PNG atomically, and close it.

    Parameters
    ----------
    figure
        The figure.
    path
        File to write; its name ends in .png.
    dpi
        Pixels per inch.
    """
    # bbox_inches="tight" draws the figure a second time to measure it. A figure with a layout
    # engine already fits its contents.
    fitted = figure.get_layout_engine() is not None
    with atomic_path(path) as temporary:
        figure.savefig(
            temporary,
            dpi=dpi,
            bbox_inches=None if fitted else "tight",
            metadata={"Software": None},  # the version of matplotlib would change the bytes
            pil_kwargs={"compress_level": PNG_COMPRESSION},
        )
    plt.close(figure)


def save_figure(figure: Figure, path: str | Path, source: pd.DataFrame) -> None:
    """Write a figure as ``<name>.png`` and ``<name>.pdf``, with its values, and close it.

    The same figure gives the same bytes. Clouds of more than `MAX_VECTORS` points are stored as
    pixels in the PDF.

    Parameters
    ----------
    figure
        The figure.
    path
        The PNG file.
    source
        The values that are drawn; written as ``<name>_figure.csv``.
    """
    path = Path(path)
    write_csv(path.with_name(f"{path.stem}_figure.csv"), source)
    for artist in figure.findobj(_is_cloud):
        artist.set_rasterized(True)
    fitted = figure.get_layout_engine() is not None
    with (
        atomic_path(path.with_suffix(".pdf")) as temporary,
        # Font type 42 keeps text editable in Illustrator and Inkscape, as journals ask for.
        matplotlib.rc_context({"pdf.fonttype": 42}),
    ):
        figure.savefig(
            temporary,
            dpi=_PDF_DPI,
            bbox_inches=None if fitted else "tight",
            metadata={"CreationDate": None},
        )
    if fitted:
        # The PNG keeps the layout of the PDF: to solve it again takes a third of the time.
        figure.set_layout_engine("none")
    save(figure, path)


def _is_cloud(artist: Artist) -> bool:
    """Return whether an artist draws more than `MAX_VECTORS` separate points."""
    if isinstance(artist, PathCollection):
        return len(np.ma.getdata(artist.get_offsets())) > MAX_VECTORS
    return (
        isinstance(artist, Line2D)
        and artist.get_marker() not in ("", "None")
        and (len(np.atleast_1d(artist.get_xdata())) > MAX_VECTORS)
    )


class PatientGroup(NamedTuple):
    """Patients who share one survival curve.

    Attributes
    ----------
    table
        Their survival times.
    label
        Name in the legend.
    colour
        Colour of the curve.
    """

    table: SurvivalTable
    label: str
    colour: str


def year_ticks(last: float, locator: MaxNLocator) -> NDArray[np.float64]:
    """Choose years at which numbers at risk are shown.

    Parameters
    ----------
    last
        End of the longest follow-up in years.
    locator
        Rule for round numbers.

    Returns
    -------
    ndarray
        Round numbers from 0 to `last`.
    """
    ticks = np.asarray(locator.tick_values(0, last), dtype=np.float64)
    return ticks[(ticks >= 0) & (ticks <= last)]


def kaplan_meier(
    axis: Axes,
    groups: Sequence[PatientGroup],
    *,
    ticks: NDArray[np.float64],
    below: Axes | None = None,
) -> pd.DataFrame:
    """Draw survival curves with 95 % bands and the numbers of patients at risk.

    The curve is the Kaplan-Meier estimate (J. Am. Stat. Assoc. 1958). If patients enter late, it is
    Breslow's estimate of the same curve (Biometrics 1974): the first few patients under observation
    may all have an event, and the Kaplan-Meier curve would then fall to 0 and stay there.

    Parameters
    ----------
    axis
        Axes of the curves; the horizontal axis is in years.
    groups
        One curve for each group.
    ticks
        Years at which the numbers at risk are shown.
    below
        Axes under `axis` for the numbers at risk, one line for each group in its colour. None to
        write them into the tick labels of `axis`.

    Returns
    -------
    DataFrame
        One row for each step of each curve: group, years, without_event, low, high, at_risk.
    """
    # lifelines takes a second to import, and most figures do not need it.
    from lifelines import BreslowFlemingHarringtonFitter, KaplanMeierFitter

    drawn, counts = [], []
    for table, label, colour in groups:
        years = table.time_days / DAYS_PER_YEAR
        if table.entry_days is None:
            fit = KaplanMeierFitter().fit(years, table.event)
        else:
            fit = BreslowFlemingHarringtonFitter().fit(
                years, table.event, entry=table.entry_days / DAYS_PER_YEAR
            )
        curve, band = fit.survival_function_.iloc[:, 0], fit.confidence_interval_
        low, high = band.iloc[:, 0], band.iloc[:, 1]
        axis.step(curve.index, curve, where="post", color=colour, label=label)
        axis.fill_between(band.index, low, high, step="post", color=colour, alpha=0.15, lw=0)
        step_days = curve.index.to_numpy(float) * DAYS_PER_YEAR * _JUST_BELOW
        drawn.append(
            pd.DataFrame(
                {
                    "group": label,
                    "years": curve.index,
                    "without_event": curve.to_numpy(),
                    "low": low.to_numpy(),
                    "high": high.to_numpy(),
                    "at_risk": table.at_risk(step_days),
                }
            )
        )
        counts.append(table.at_risk(ticks * DAYS_PER_YEAR))
    axis.set_ylim(0, 1.02)
    axis.spines[["top", "right"]].set_visible(False)
    if below is None:
        lines = [f"{tick:g}" for tick in ticks]
        for row in counts:
            lines = [f"{text}\n{count:,}" for text, count in zip(lines, row, strict=True)]
        axis.set_xticks(ticks, lines)
    else:
        axis.set_xticks(ticks)
        _write_counts(below, ticks, counts, [group.colour for group in groups])
    return pd.concat(drawn)


def _write_counts(
    below: Axes, ticks: np.ndarray, counts: Sequence[Sequence[int]], colours: Sequence[str]
) -> None:
    """Write the numbers at risk into their own axes, one line for each group."""
    for line, (row, colour) in enumerate(zip(counts, colours, strict=True)):
        for tick, count in zip(ticks, row, strict=True):
            below.text(tick, -line, f"{count}", ha="center", va="center", fontsize=8, color=colour)
    below.set(ylim=(0.4 - len(counts), 0.6), yticks=[], xticks=ticks)
    below.spines[["top", "right", "left", "bottom"]].set_visible(False)
    below.tick_params(length=0)
