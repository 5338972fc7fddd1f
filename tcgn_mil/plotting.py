"""Figures of results: curves, per-gene comparison, scatter, spot maps and slide maps.

Those of runs are a PNG for the screen, a PDF for print, and a CSV of what is drawn; maps of slides and explanations,
whose values are in files of their own, are PNG alone.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tcgn_mil.io.atomic import atomic_path, write_csv

matplotlib.use("Agg")

DPI = 120
MOST_VECTORS = 4000
_PDF_DPI = 300  # of what is pixels in it
PNG_COMPRESSION = 3  # of 9; half the time of the usual 6 for a tenth more bytes
_PANEL_INCHES = 4.4
COLOURS = ("#1b5e9e", "#d1662b", "#7a7a7a", "#3f8f5b", "#8d5ba5", "#b5a21e", "#4aa3b5")


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure atomically as PNG and close it."""
    fitted = (
        figure.get_layout_engine() is not None
    )  # fitting it again to its contents would draw it twice
    with atomic_path(path) as temporary:
        figure.savefig(
            temporary,
            dpi=DPI,
            bbox_inches=None if fitted else "tight",
            metadata={"Software": None},
            pil_kwargs={"compress_level": PNG_COMPRESSION},
        )
    plt.close(figure)


def save_figure(figure: Figure, path: str | Path, source: pd.DataFrame) -> None:
    """Write ``<name>.pdf`` and ``<name>_figure.csv`` (`source`, what is drawn), then ``<name>.png``; close the figure.

    Each is written atomically, and the same figure gives the same bytes. Clouds of more than `MOST_VECTORS` points are
    pixels in the PDF, which viewers would be slow to draw otherwise.
    """
    path = Path(path)
    write_csv(path.with_name(f"{path.stem}_figure.csv"), source)
    for artist in figure.findobj(_is_cloud):
        artist.set_rasterized(True)
    fitted = figure.get_layout_engine() is not None
    with (
        atomic_path(path.with_suffix(".pdf")) as temporary,
        matplotlib.rc_context({"pdf.fonttype": 42}),
    ):
        figure.savefig(
            temporary,
            dpi=_PDF_DPI,
            bbox_inches=None if fitted else "tight",
            metadata={"CreationDate": None},
        )
    save(figure, path)


def _is_cloud(artist: Artist) -> bool:
    """Whether an artist draws very many separate points."""
    if isinstance(artist, PathCollection):
        return len(np.ma.getdata(artist.get_offsets())) > MOST_VECTORS
    return (
        isinstance(artist, Line2D)
        and artist.get_marker() not in ("", "None")
        and (len(np.atleast_1d(artist.get_xdata())) > MOST_VECTORS)
    )
