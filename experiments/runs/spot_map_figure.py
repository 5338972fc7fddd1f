"""Draw measured and predicted expression of the spots of a section, beside its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import EllipseCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tcgn_mil import plotting
from tcgn_mil.experiments.runs.figures import measured_and_predicted
from tcgn_mil.plotting import ColourScale

_SPOT_SHARE = 0.85  # diameter of a spot as a share of the distance to the next


@dataclass(frozen=True, eq=False)
class MappedSection:
    """Places of the S spots of a section, and its picture.

    Attributes
    ----------
    spatial
        (S, 2) centres of the spots, x and y, in pixels.
    mpp
        Micrometres per pixel.
    picture
        (H, W, 3) uint8 picture of the section, or None.
    extent
        Left, right, bottom and top of the picture in pixels, as Matplotlib's ``imshow`` takes them.
    """

    spatial: NDArray[np.floating]
    mpp: float
    picture: NDArray[np.uint8] | None
    extent: tuple[float, float, float, float]

    @property
    def pitch(self) -> float:
        """Distance between neighbouring spots in pixels; 1 if there is a single spot."""
        if len(self.spatial) < 2:
            return 1.0
        away, _ = cKDTree(self.spatial).query(self.spatial, k=2)
        return float(np.median(away[:, 1])) or 1.0


@plotting.styled
def spot_maps(
    section: MappedSection,
    genes: Sequence[str],
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
    path: str | Path,
    *,
    unit: str,
    title: str,
    notes: Sequence[str] | None = None,
) -> None:
    """Draw a row for each gene: the section, measured expression, and predicted expression.

    Both maps of a gene have colours of their own, because predictions vary less than measurements.
    The scale of the predictions spans at least one standard deviation of the measured values, so
    that a nearly constant prediction looks constant.

    Parameters
    ----------
    section
        The section.
    genes
        Names of the genes.
    truth, predicted
        (S, genes) values.
    path
        PNG file to write.
    unit
        Unit of both.
    title
        Title of the figure.
    notes
        Words under the name of each gene, which say which r they state.

    Examples
    --------
    ::

        spot_maps(section, ["CD3E"], truth, predicted, "maps.png", unit="log1p(counts)",
                  title="section A1", notes=["depth-adjusted r 0.42"])
    """
    figure = draw_spot_maps(
        section, genes, truth, predicted, unit=unit, title=title, notes=notes or [""] * len(genes)
    )
    x, y = section.spatial.T
    plotting.save_figure(
        figure, path, measured_and_predicted(genes, {"x": x, "y": y}, truth, predicted)
    )


@plotting.styled
def draw_spot_maps(
    section: MappedSection,
    genes: Sequence[str],
    truth: NDArray[np.floating],
    predicted: NDArray[np.floating],
    *,
    unit: str,
    title: str,
    notes: Sequence[str],
) -> Figure:
    """Return the figure that :func:`spot_maps` writes; its arguments are those of that function."""
    left, right, bottom, top = section.extent
    panel = plotting.TWO_COLUMNS / 3
    height = float(np.clip(0.66 * panel * abs((bottom - top) / (right - left)), 0.9, 3.2))
    rows = max(len(genes), 1)
    figure, axes = plotting.subplots(
        rows, 3, width=plotting.TWO_COLUMNS, height=(height + 0.45) * rows + 0.3, squeeze=False
    )
    for row, (gene, note) in enumerate(zip(genes, notes, strict=True)):
        picture, measured, guessed = axes[row]
        if section.picture is not None:
            picture.imshow(section.picture, extent=section.extent)
        picture.set_title(plotting.plain_text(f"{gene}\n{note}" if note else gene))
        sd = float(np.nanstd(truth[:, row])) if np.isfinite(truth[:, row]).any() else 0.0
        for axis, values, words in (
            (measured, truth[:, row], "measured"),
            (guessed, predicted[:, row], "predicted"),
        ):
            _draw_spots(axis, section, values, plotting.spot_scale(values, unit, sd=sd))
            axis.set_title(words)
        for axis in axes[row]:
            axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
            axis.spines[:].set_visible(True)
    if len(genes):
        plotting.draw_scale_bar(axes[0, 0], section.mpp)
    else:
        for axis in axes.flat:
            axis.set_axis_off()
    figure.suptitle(plotting.plain_text(f"{title}, n = {len(section.spatial):,} spots"))
    return figure


def _draw_spots(
    axis: Any, section: MappedSection, values: NDArray[np.floating], scale: ColourScale
) -> None:
    """Draw spots as circles in the unit of the picture, so that they fit it at every size."""
    known = np.isfinite(values)
    diameter = _SPOT_SHARE * section.pitch
    spots = EllipseCollection(
        np.full(known.sum(), diameter),
        np.full(known.sum(), diameter),
        np.zeros(known.sum()),
        units="xy",
        offsets=section.spatial[known],
        offset_transform=axis.transData,
        linewidths=0,
    )
    shown = scale.mappable()
    spots.set_facecolor(shown.to_rgba(values[known]).tolist())
    axis.add_collection(spots)
    bar = axis.figure.colorbar(shown, ax=axis, shrink=0.85, pad=0.03, aspect=14, extend="both")
    bar.set_label(plotting.figure_label(scale.label, 34), fontsize=6.5)
    bar.ax.locator_params(nbins=5)
    bar.outline.set_linewidth(0.5)
