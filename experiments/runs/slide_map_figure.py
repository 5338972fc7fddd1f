"""Draw maps of a slide: a value per tile as colour, over the light and dark of its tissue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tcgn_mil import plotting
from tcgn_mil.plotting import ColourScale

_COLUMNS = 3
_RASTER_PX = 700  # longest side of a map; a panel has about 400 pixels in the PNG


@dataclass(frozen=True, eq=False)
class MappedSlide:
    """A slide and the places of its N tiles.

    Attributes
    ----------
    thumbnail
        (H, W, 3) uint8 picture of the slide, or None.
    coords
        (N, 2) top-left corners of the tiles, in level-0 pixels.
    tile_side
        Side of a tile in level-0 pixels.
    size
        Width and height of level 0.
    mpp
        Micrometres per level-0 pixel, for the scale bar. None if it is not known.
    """

    thumbnail: NDArray[np.uint8] | None
    coords: NDArray[np.int64]
    tile_side: float
    size: tuple[int, int]
    mpp: float | None = None


@dataclass(frozen=True, eq=False)
class MapPanel:
    """One map of a slide.

    Attributes
    ----------
    title
        Its title; a second line tells how far the map can be trusted.
    values
        (N,) values of the tiles; NaN is drawn as if there were no tile.
    scale
        Colours of the values.
    """

    title: str
    values: NDArray[np.floating]
    scale: ColourScale


@plotting.styled
def slide_maps(
    slide: MappedSlide, panels: Sequence[MapPanel], path: str | Path, *, title: str
) -> None:
    """Draw a slide's picture beside one map for each value per tile.

    Parameters
    ----------
    slide
        The slide and its tiles.
    panels
        The maps.
    path
        PNG file to write.
    title
        Title of the figure.

    Examples
    --------
    ::

        slide_maps(
            MappedSlide(None, coords, 256, (2048, 2048), mpp=0.5),
            [MapPanel("CD3E", scores, plotting.score_scale(scores, "score (sd)"))],
            "maps.png",
            title="slide S1",
        )
    """
    plotting.save(draw_slide_maps(slide, panels, title=title), path)


@plotting.styled
def draw_slide_maps(slide: MappedSlide, panels: Sequence[MapPanel], *, title: str) -> Figure:
    """Return the figure that :func:`slide_maps` writes."""
    with_picture = slide.thumbnail is not None
    count = len(panels) + with_picture
    columns = min(_COLUMNS, count)
    rows = math.ceil(count / columns)
    panel_width = plotting.TWO_COLUMNS / _COLUMNS
    # A colour bar with its label takes about a third of a panel's width.
    height = float(np.clip(0.68 * panel_width * slide.size[1] / slide.size[0], 0.9, 3.6))
    figure, axes = plotting.subplots(
        rows,
        columns,
        width=panel_width * columns,
        height=(height + 0.5) * rows + 0.35,
        squeeze=False,
    )
    shade, tile_of = _rasters(slide)
    extent = (0, slide.size[0], slide.size[1], 0)
    places = list(axes.flat)
    if slide.thumbnail is not None:
        places[0].imshow(_resized(slide.thumbnail, (shade.shape[1], shade.shape[0])), extent=extent)
        places[0].set_title("slide")
    for axis, panel in zip(places[with_picture:], panels, strict=False):
        axis.imshow(_painted(panel, tile_of, shade, with_picture=with_picture), extent=extent)
        axis.set_title(plotting.plain_text(panel.title))
        bar = figure.colorbar(panel.scale.mappable(), ax=axis, shrink=0.85, pad=0.03, aspect=14)
        bar.set_label(panel.scale.label, fontsize=7)
        bar.outline.set_linewidth(0.5)
    for axis in places[:count]:
        axis.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], aspect="equal")
        axis.spines[:].set_visible(True)
    if slide.mpp is not None:
        plotting.draw_scale_bar(places[0], slide.mpp)
    for axis in places[count:]:
        axis.set_axis_off()
    figure.suptitle(plotting.plain_text(title))
    return figure


def _rasters(slide: MappedSlide) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the brightness of the tissue, and the tile at each pixel (-1 for none).

    Tiles are painted into pixels, and not drawn as polygons: polygons that touch leave white seams,
    and the borders of those that overlap become dark lines.
    """
    scale = _RASTER_PX / max(slide.size)
    width, height = (max(round(side * scale), 1) for side in slide.size)
    tile_of = np.full((height, width), -1, dtype=np.int64)
    low = np.rint(slide.coords * scale).astype(int)
    # Sides and corners are rounded, so that one pixel could be left between two neighbours. Each
    # tile has one pixel more, which the next one paints over.
    high = np.rint((slide.coords + slide.tile_side) * scale).astype(int) + 1
    for tile, ((left, top), (right, bottom)) in enumerate(
        zip(low.tolist(), high.tolist(), strict=True)
    ):
        tile_of[max(top, 0) : bottom, max(left, 0) : right] = tile
    if slide.thumbnail is None:
        return np.ones((height, width)), tile_of  # neither glass nor tissue is known
    return plotting.shade_tissue(_resized(slide.thumbnail, (width, height))), tile_of


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def _painted(
    panel: MapPanel, tile_of: NDArray[np.int64], shade: NDArray[np.float64], *, with_picture: bool
) -> NDArray[np.float64]:
    """Return the (H, W, 3) picture of a map: tile colours times brightness of the tissue."""
    values = np.asarray(panel.values, dtype=float)
    colours = np.asarray(panel.scale.mappable().to_rgba(values))[:, :3]
    # The last row is the colour where there is no tile, which index -1 finds.
    empty = 1.0 if with_picture else float(plotting.NO_TILE)
    colours = np.concatenate(
        [np.where(np.isfinite(values)[:, None], colours, empty), np.full((1, 3), empty)]
    )
    painted: NDArray[np.float64] = colours[tile_of] * shade[..., None]
    return painted
