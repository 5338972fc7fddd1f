"""Draw the planted tissue of a slide beside what the models predicted from its image."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from tcgn_mil import plotting
from tcgn_mil.experiments.demo.planted_truth import MappedTiles, mapped_tiles
from tcgn_mil.experiments.demo.synthetic.config import REGIONS
from tcgn_mil.plotting import ColourScale

_REGION_COLOURS = dict(
    zip(
        (name.replace("_", " ") for name in REGIONS),
        ("#cc79a7", "#d55e00", "#f2d0dd", "#0072b2", "#f0e442", "#6e6e6e"),
        strict=True,
    )
)


class Comparison(NamedTuple):
    """Planted tissue, and the gene whose map should show it.

    Attributes
    ----------
    regions
        Regions whose share of each tile is the truth.
    against
        Regions whose share is subtracted, so that the truth runs from -1 to 1; empty for none.
    title
        Words for the truth.
    gene
        Gene of the map.
    """

    regions: tuple[str, ...]
    against: tuple[str, ...]
    title: str
    gene: str


def slide_with_most_to_see(truth: Path, slides: list[str]) -> str:
    """Return the slide whose rarest of three regions is the most frequent, judged by the truth.

    The regions are immune aggregates and the two tumour subtypes. Predictions are not looked at.
    """
    fractions = pd.read_csv(truth / "fractions.csv").set_index("slide").loc[slides]
    return str(fractions[["immune", "tumour_a", "tumour_b"]].min(axis=1).idxmax())


def draw_truth(
    map_path: Path, cohort: Path, picture: Path, comparisons: list[Comparison], path: Path
) -> None:
    """Draw the slide, and for each comparison the truth and the prediction of its tiles.

    Parameters
    ----------
    map_path
        ``maps/<slide>.h5ad`` of ``tcgn-mil predict``.
    cohort
        Folder of the synthetic cohort.
    picture
        Thumbnail of the slide.
    comparisons
        One row of the figure for each.
    path
        PNG file to write.
    """
    tiles = mapped_tiles(map_path, cohort)
    with Image.open(picture) as image:
        thumbnail = np.asarray(image.convert("RGB"))
    draw_comparisons(tiles, thumbnail, comparisons, path)


@plotting.styled
def draw_comparisons(
    tiles: MappedTiles, thumbnail: NDArray[np.uint8], comparisons: list[Comparison], path: Path
) -> None:
    """Draw one row for each comparison, as :func:`draw_truth` does, from what it has read."""
    # Region maps cover the whole slide, as the thumbnail does.
    height_um, width_um = (side * tiles.label_mpp for side in tiles.labels.shape)
    rows = len(comparisons)
    panel = 0.7 * plotting.TWO_COLUMNS / 3
    figure, axes = plotting.subplots(
        rows,
        3,
        width=plotting.TWO_COLUMNS,
        height=rows * (panel * height_um / width_um + 0.4) + 0.4,
        squeeze=False,
    )
    for row, compared in zip(axes, comparisons, strict=True):
        truth = tiles.share(*compared.regions)
        planted = ColourScale(colormaps["Purples"], 0.0, 1.0, "share of the tile")
        if compared.against:
            truth = truth - tiles.share(*compared.against)
            planted = ColourScale(colormaps["RdBu_r"], -1.0, 1.0, "difference of shares")
        scores = tiles.map[:, compared.gene].X
        predicted = np.asarray(scores, dtype=float).ravel()
        guessed = plotting.score_scale(predicted, "score (sd of patients)")
        _draw(figure, row[1], tiles, truth, planted, f"truth: {compared.title}")
        _draw(figure, row[2], tiles, predicted, guessed, f"predicted: {compared.gene}")
        for axis in row:
            axis.set(xlim=(0, width_um), ylim=(height_um, 0), xticks=[], yticks=[], aspect="equal")
            axis.set_facecolor(plotting.NO_TILE)
            axis.spines[:].set_visible(True)
    extent = (0, width_um, height_um, 0)
    axes[0, 0].imshow(thumbnail, extent=extent)
    axes[0, 0].set_title("slide")
    plotting.draw_scale_bar(axes[0, 0], 1.0)  # these axes are in µm
    for axis in axes[1:, 0]:
        _draw_regions(axis, tiles.labels, extent)
    plotting.save(figure, path)


def _draw_regions(
    axis: Axes, labels: NDArray[np.uint8], extent: tuple[float, float, float, float]
) -> None:
    colours = ListedColormap(["white", *_REGION_COLOURS.values()])
    axis.imshow(labels, extent=extent, cmap=colours, vmin=0, vmax=len(_REGION_COLOURS))
    axis.set_title("planted tissue")
    patches = [Patch(color=colour, label=name) for name, colour in _REGION_COLOURS.items()]
    axis.legend(
        handles=patches,
        ncols=3,
        fontsize=6,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        handlelength=1.0,
        columnspacing=0.8,
    )


def _draw(
    figure: Figure,
    axis: Axes,
    tiles: MappedTiles,
    values: NDArray[np.float64],
    scale: ColourScale,
    title: str,
) -> None:
    """Draw tiles as squares in the colours of a scale."""
    corners = (np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) - 0.5) * tiles.side_um
    # Antialiasing would leave pale seams between squares that touch.
    squares = PolyCollection(
        list(tiles.centres_um[:, None] + corners), linewidth=0, antialiased=False
    )
    shown = scale.mappable()
    squares.set_facecolor(shown.to_rgba(values).tolist())
    axis.add_collection(squares)
    axis.set_title(plotting.plain_text(title))
    bar = figure.colorbar(shown, ax=axis, shrink=0.8, pad=0.03, aspect=14)
    bar.set_label(scale.label, fontsize=7)
