"""The style of all figures: widths of journal columns, sizes of text, colours, and safe names.

A figure is made at the width at which it is printed, so that its text has the size that is stated
here. Journals ask for 5 to 8 points; labels have 8 and tick labels 7. The colours are those of
Okabe and Ito (Color Universal Design, 2008), which people with the common forms of colour blindness
can tell apart; yellow is left out because it is too pale for lines on white paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from tcgn_mil.plotting.fonts import families, without_font_warnings

ONE_COLUMN = 3.5  # inches; 89 mm
TWO_COLUMNS = 7.2  # inches; 183 mm
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
GREY, PALE = "#6e6e6e", "#c9d6e3"  # what is compared with, and what is not significant
_LONGEST_NAME = 32
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "figure.titlesize": 8,
    "figure.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.7,
    "axes.prop_cycle": cycler(color=COLOURS),
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlepad": 4,
    "figure.dpi": 100,
    "savefig.facecolor": "white",
    # Font type 42 and text as text keep words editable in Illustrator and Inkscape.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "tcgn-mil",  # ids in an SVG would otherwise be random
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Give a function that draws the style of this package, also while it saves the figure.

    Matplotlib's own settings are left as they were, because a notebook may have set others.

    Parameters
    ----------
    draw
        The function.

    Examples
    --------
    >>> @styled
    ... def size_of_text():
    ...     return matplotlib.rcParams["font.size"]
    >>> size_of_text()
    8.0
    """

    @wraps(draw)
    def drawn_in_style(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(), without_font_warnings():
            # The defaults come first: a user's style file must not reach into the figures of a run.
            matplotlib.rcdefaults()
            for name, value in _STYLE.items():
                matplotlib.rcParams[name] = value
            matplotlib.rcParams["font.family"] = [*families()]
            return draw(*args, **kwargs)

    return drawn_in_style


def new_figure(width: float, height: float, *, layout: str | None = "constrained") -> Figure:
    """Make a figure that no window and no notebook shows by itself.

    Parameters
    ----------
    width, height
        Size in inches at which the figure is printed.
    layout
        Layout engine of Matplotlib.
    """
    return Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]


def subplots(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float,
    height: float,
    layout: str | None = "constrained",
    **options: Any,
) -> tuple[Figure, Any]:
    """Make a figure with axes, as ``pyplot.subplots`` does, but without pyplot's global state.

    Parameters
    ----------
    rows, columns
        Number of axes.
    width, height
        Size in inches at which the figure is printed.
    layout
        Layout engine of Matplotlib.
    options
        Passed on to ``Figure.subplots``.

    Returns
    -------
    figure, axes
        The figure, and its axes in the shape that ``Figure.subplots`` gives them.

    Examples
    --------
    >>> figure, axis = subplots(width=ONE_COLUMN, height=2)
    >>> axis.plot([0, 1], [0, 1], color=COLOURS[0])  # doctest: +ELLIPSIS
    [<matplotlib.lines.Line2D object at ...>]
    """
    figure = new_figure(width, height, layout=layout)
    return figure, figure.subplots(rows, columns, **options)


def plain_text(text: object) -> str:
    r"""Return text that Matplotlib draws as it is, and not as mathematics.

    Examples
    --------
    >>> print(plain_text("P$1$"))
    P\$1\$
    """
    return str(text).replace("$", r"\$")


def shortened(name: object, longest: int = _LONGEST_NAME) -> str:
    """Shorten a name for a figure, for a function that escapes it itself.

    Examples
    --------
    >>> shortened("T cells"), shortened("abcdef", 4)
    ('T cells', 'abc…')
    """
    text = str(name)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def figure_label(name: object, longest: int = _LONGEST_NAME) -> str:
    r"""Shorten a name for a figure, and escape what Matplotlib would read as mathematics.

    Examples
    --------
    >>> print(figure_label("T$1$ cells", 8))
    T\$1\$ ce…
    """
    return plain_text(shortened(name, longest))


def counted_label(label: str, n: int, what: str) -> str:
    """Return the label of an axis with the number of things on it.

    Examples
    --------
    >>> counted_label("r", 1234, "genes")
    'r (n = 1,234 genes)'
    """
    return f"{label} (n = {n:,} {what})"


def r_text(r: float | None) -> str:
    """Return a correlation for a title, with a true minus sign, or NA.

    Examples
    --------
    >>> r_text(-0.051), r_text(float("nan"))
    ('−0.05', 'NA')
    """
    if r is None or not math.isfinite(r):
        return "NA"
    return f"{np.round(r, 2) + 0.0:.2f}".replace("-", "−")
