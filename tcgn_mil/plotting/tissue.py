"""Colours, shading and scale bars for maps of tissue.

A map shows two things at once: a value per place, as colour, and the tissue below it, as light and
dark. The colour of a place is multiplied by the brightness of the tissue, so that the colour bar
stays true (a half-transparent colour would be mixed with that of the stain).

Colour scales have a floor. A map that is stretched to its own range shows noise in full colour, and
two tiles always become the two ends of the palette.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from numpy.typing import NDArray

NO_TILE = "0.93"  # grey of places without a tile, where there is no picture of the slide
MIN_SCALE_SD = 0.5  # standard deviations of the gene that a colour scale reaches on each side
_MIN_ATTENTION = 2.0  # multiples of the average tile that the scale of attention reaches
_DARKEST = 0.5  # brightness of black tissue under a colour
_PALE_SHARE = 0.35  # colour left in the map of a gene that is not predictable
_BAR_LENGTHS_UM = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)


@dataclass(frozen=True)
class ColourScale:
    """Colours of a map, and the values at their two ends.

    Attributes
    ----------
    colours
        Colour map.
    low, high
        Values at its ends; values beyond them have the colour of the end.
    label
        Label of the colour bar: what the values are, with their unit.
    """

    colours: Colormap
    low: float
    high: float
    label: str

    def mappable(self) -> ScalarMappable:
        """Return what ``Figure.colorbar`` draws, and what turns values into colours."""
        return ScalarMappable(Normalize(self.low, self.high), self.colours)


def score_scale(
    values: NDArray[np.floating], label: str, *, predictable: bool = True
) -> ColourScale:
    """Choose the colours of standardised scores: blue below 0, white at 0, red above.

    The scale ends at the 98th percentile of the distance from 0, but never below `MIN_SCALE_SD`
    standard deviations of the gene over patients.

    Parameters
    ----------
    values
        (N,) scores in standard deviations.
    label
        Label of the colour bar.
    predictable
        False makes the colours pale, so that the map of a gene that cannot be predicted is not
        taken for one that can.

    Examples
    --------
    >>> score_scale(np.array([-0.015, 0.015]), "score (sd)").high
    0.5
    """
    finite = np.abs(values[np.isfinite(values)])
    end = max(float(np.percentile(finite, 98)) if finite.size else 0.0, MIN_SCALE_SD)
    colours = colormaps["RdBu_r"]
    return ColourScale(colours if predictable else _pale(colours), -end, end, label)


def attention_scale(values: NDArray[np.floating], label: str) -> ColourScale:
    """Choose the colours of attention in multiples of the average tile, from 0 to at least 2.

    Parameters
    ----------
    values
        (N,) attention; 1 is that of the average tile.
    label
        Label of the colour bar.
    """
    finite = values[np.isfinite(values)]
    end = max(float(np.percentile(finite, 99)) if finite.size else 0.0, _MIN_ATTENTION)
    return ColourScale(colormaps["Purples"], 0.0, end, label)


def spot_scale(values: NDArray[np.floating], label: str, *, sd: float) -> ColourScale:
    """Choose the colours of the spots of a section, from the 2nd to the 98th percentile.

    Parameters
    ----------
    values
        (S,) values.
    label
        Label of the colour bar.
    sd
        Standard deviation of the measured gene over the spots. The scale spans at least
        `MIN_SCALE_SD` of it on each side of its middle.
    """
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (2, 98)) if finite.size else (0.0, 0.0)
    middle = (low + high) / 2
    # The last term keeps the two ends apart where nothing varies at all.
    half = max((high - low) / 2, MIN_SCALE_SD * sd if np.isfinite(sd) else 0.0, 1e-6)
    return ColourScale(colormaps["magma"], float(middle - half), float(middle + half), label)


def _pale(colours: Colormap) -> Colormap:
    table = np.asarray(colours(np.linspace(0, 1, 256)))[:, :3]
    return ListedColormap(1 - _PALE_SHARE * (1 - table), name=f"pale {colours.name}")


def shade_tissue(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the brightness of a picture of tissue, for colours to be multiplied with.

    Parameters
    ----------
    picture
        (H, W, 3) uint8.

    Returns
    -------
    (H, W) float64 from 0.5 to 1. Glass is 1, and the darkest tissue is 0.5.
    """
    grey = picture.astype(np.float64).mean(axis=2)
    low, high = np.percentile(grey, (1, 90))
    share = np.clip((grey - low) / max(high - low, 1.0), 0, 1)
    shade: NDArray[np.float64] = _DARKEST + (1 - _DARKEST) * share
    return shade


def draw_scale_bar(axis: Axes, um_per_unit: float) -> None:
    """Draw a scale bar into the lower left corner of axes whose limits are set.

    Parameters
    ----------
    axis
        Axes of a picture or a map.
    um_per_unit
        Micrometres per unit of the horizontal axis.
    """
    left, right = axis.get_xlim()
    width_um = abs(right - left) * um_per_unit
    length = max(
        (bar for bar in _BAR_LENGTHS_UM if bar <= width_um / 3), default=_BAR_LENGTHS_UM[0]
    )
    share = length / width_um
    words = f"{length / 1000:g} mm" if length >= 1000 else f"{length} µm"
    # In shares of the axes, so that the bar is in the same corner whatever the limits are.
    for colour, thickness in (("white", 4.0), ("black", 1.8)):
        axis.plot(
            [0.04, 0.04 + share],
            [0.045, 0.045],
            color=colour,
            linewidth=thickness,
            solid_capstyle="butt",
            transform=axis.transAxes,
            zorder=5,
            scalex=False,
            scaley=False,
        )
    axis.text(
        0.04 + share / 2,
        0.07,
        words,
        ha="center",
        va="bottom",
        fontsize=7,
        transform=axis.transAxes,
        zorder=5,
        bbox={"facecolor": "white", "alpha": 0.7, "pad": 0.8, "linewidth": 0},
    )
