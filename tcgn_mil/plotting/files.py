"""Save figures reproducibly: the same figure gives the same bytes.

A result figure consists of three files: a PNG for the screen, a PDF for print, and a CSV table of
the values that are drawn. Maps of slides are a PNG alone, because their values are in other files.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.collections import EllipseCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tcgn_mil.io.atomic import atomic_path, write_csv
from tcgn_mil.plotting.fonts import pdf_font_type, tell_of_missing_letters

DPI = 200  # of a PNG; a figure of two columns has 1440 pixels, enough for a sharp screen
MAX_VECTORS = 4000  # PDF viewers become slow when a figure has more separate points than this
PNG_COMPRESSION = 3  # 0 to 9; half the time of the usual 6, for files that are a tenth larger
_PDF_DPI = 300  # resolution of the parts of a PDF that are stored as pixels


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, atomically.

    Parameters
    ----------
    figure
        The figure.
    path
        File to write; its name ends in .png.
    """
    tell_of_missing_letters(figure)
    with atomic_path(path) as temporary:
        figure.savefig(
            temporary,
            dpi=DPI,
            bbox_inches=_box(figure),
            metadata={"Software": None},  # the version of matplotlib would change the bytes
            pil_kwargs={"compress_level": PNG_COMPRESSION},
        )


def save_figure(figure: Figure, path: str | Path, source: pd.DataFrame) -> None:
    """Write a figure as ``<name>.png`` and ``<name>.pdf``, with its values.

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
    with (
        atomic_path(path.with_suffix(".pdf")) as temporary,
        matplotlib.rc_context({"pdf.fonttype": pdf_font_type(figure)}),
    ):
        figure.savefig(
            temporary,
            dpi=_PDF_DPI,
            bbox_inches=_box(figure),
            # A date would change the bytes from run to run, and a version from machine to machine.
            metadata={"CreationDate": None, "Creator": None, "Producer": None},
        )
    if figure.get_layout_engine() is not None:
        # The PNG keeps the layout of the PDF: to solve it again takes a third of the time.
        figure.set_layout_engine("none")
    save(figure, path)


def _box(figure: Figure) -> str | None:
    """Return how to crop a figure.

    bbox_inches="tight" draws the figure a second time to measure it, and changes its width. A
    figure with a layout engine fits its contents already. One whose engine was turned off has a
    placeholder, and was fitted before.
    """
    return None if figure.get_layout_engine() is not None else "tight"


def _is_cloud(artist: Artist) -> bool:
    """Return whether an artist draws more than `MAX_VECTORS` separate points."""
    if isinstance(artist, (PathCollection, EllipseCollection)):
        return len(np.ma.getdata(artist.get_offsets())) > MAX_VECTORS
    return (
        isinstance(artist, Line2D)
        and artist.get_marker() not in ("", "None")
        and (len(np.atleast_1d(artist.get_xdata())) > MAX_VECTORS)
    )
