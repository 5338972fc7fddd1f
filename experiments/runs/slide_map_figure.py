"""Draw maps of a slide: a value per tile, beside the thumbnail of the slide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tcgn_mil.plotting import DPI, save

_PANEL_INCHES = 4.4  # side of one map


def slide_maps(
    thumbnail: NDArray[np.uint8] | None,
    coords: NDArray[np.int64],
    tile_side: float,
    slide_size: tuple[int, int],
    values: Mapping[str, NDArray[np.floating]],
    path: str | Path,
    *,
    title: str,
) -> None:
    """Draw a slide's thumbnail beside one map for each value per tile.

    Parameters
    ----------
    thumbnail
        (H, W, 3) picture of the slide, or None.
    coords
        (N, 2) top-left corners of the tiles, in level-0 pixels.
    tile_side
        Side of a tile in level-0 pixels.
    slide_size
        Width and height of level 0.
    values
        Title of each map, and its values, (N,).
    path
        PNG file to write.
    title
        Title of the figure.
    """
    # None stands for the panel of the slide itself, because a map may have any name.
    panels: list[str | None] = [*([] if thumbnail is None else [None]), *values]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    height = float(np.clip(3.6 * slide_size[1] / slide_size[0], 1.4, 6.0))
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(_PANEL_INCHES * columns, (height + 0.4) * rows + 0.3),
        squeeze=False,
        layout="constrained",
    )
    thumbnail = None if thumbnail is None else _shrunk(thumbnail, round(_PANEL_INCHES * DPI))
    for axis, name in zip(axes.flat, panels, strict=False):
        if thumbnail is not None:
            axis.imshow(
                thumbnail,
                extent=(0, slide_size[0], slide_size[1], 0),
                alpha=1.0 if name is None else 0.35,
            )
        if name is not None:
            _draw_tiles(figure, axis, coords, tile_side, np.asarray(values[name], dtype=float))
        axis.set(
            xlim=(0, slide_size[0]), ylim=(slide_size[1], 0), xticks=[], yticks=[], aspect="equal"
        )
        axis.set_title("slide" if name is None else name, fontsize=9)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(title, fontsize=9)
    save(figure, path)


def _shrunk(image: NDArray[np.uint8], longest_px: int) -> NDArray[np.uint8]:
    """Return the image at the size that is shown, since matplotlib resamples it in every panel."""
    shown = Image.fromarray(image)
    shown.thumbnail((longest_px, longest_px), Image.Resampling.BOX)
    return np.asarray(shown)


def _draw_tiles(
    figure: Figure, axis: Any, coords: NDArray[np.int64], side: float, values: NDArray[np.floating]
) -> None:
    """Draw tiles as squares, in colours that end at the 1st and the 99th percentile."""
    low, high = np.nanpercentile(values, (1, 99))
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * side
    squares = PolyCollection(
        list(coords[:, None] + corners), cmap="viridis", alpha=0.85, linewidth=0
    )
    squares.set_array(values)
    # A colour scale needs two different ends, also if all tiles have the same value.
    squares.set_clim(low, max(high, low + 1e-12))
    axis.add_collection(squares)
    figure.colorbar(squares, ax=axis, shrink=0.8, pad=0.02).ax.tick_params(labelsize=9)
