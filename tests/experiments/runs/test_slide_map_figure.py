"""Test the figure of a slide's maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tcgn_mil import plotting
from tcgn_mil.experiments.runs.slide_map_figure import (
    MapPanel,
    MappedSlide,
    draw_slide_maps,
    slide_maps,
)

COORDS = np.array([[0, 0], [100, 0], [0, 100], [100, 100]])
SCORES = np.array([-2.0, 0.0, np.nan, 2.0])


def panel(title: str = "CD3E\nr 0.5") -> MapPanel:
    return MapPanel(title, SCORES, plotting.score_scale(SCORES, "score (sd)"))


def test_panels_bars_and_scale_bar_are_labelled() -> None:
    thumbnail = np.full((20, 20, 3), 255, np.uint8)
    slide = MappedSlide(thumbnail, COORDS, 100.0, (200, 200), mpp=0.5)
    figure = draw_slide_maps(slide, [panel("slide"), panel("P$1$\nr 0.1")], title="S$1$")
    titles = [axis.get_title() for axis in figure.axes]
    # A map may have the name of the panel of the slide itself.
    assert titles[:3] == ["slide", "slide", "P\\$1\\$\nr 0.1"]
    assert [axis.get_ylabel() for axis in figure.axes[3:]] == ["score (sd)"] * 2
    assert figure.axes[0].texts[0].get_text() == "20 µm"
    assert figure.get_size_inches()[0] <= plotting.TWO_COLUMNS + 1e-9


def test_tiles_have_no_seams_and_the_tissue_shows_through() -> None:
    thumbnail = np.full((70, 70, 3), 250, np.uint8)
    thumbnail[:20] = 60  # dark tissue above
    coords = np.array([[x, y] for x in range(0, 1000, 77) for y in range(0, 1000, 77)])
    scores = np.full(len(coords), 2.0)
    scale = plotting.score_scale(scores, "")
    slide = MappedSlide(thumbnail, coords, 77.3, (1000, 1000))
    figure = draw_slide_maps(slide, [MapPanel("g", scores, scale)], title="")
    painted = np.asarray(figure.axes[1].images[0].get_array())
    below = painted[300:690, 10:690].reshape(-1, 3)
    assert len(np.unique(below.round(3), axis=0)) == 1
    assert painted[100, 300].sum() < 0.6 * below[0].sum()


def test_a_tile_without_a_value_looks_like_no_tile() -> None:
    slide = MappedSlide(None, COORDS, 100.0, (200, 200))
    figure = draw_slide_maps(slide, [panel()], title="")
    painted = np.asarray(figure.axes[0].images[0].get_array())
    assert painted[600, 100].tolist() == [float(plotting.NO_TILE)] * 3
    assert painted[100, 600].min() > 0.95  # a score of 0 is white


def test_the_file_is_written(tmp_path: Path) -> None:
    slide_maps(
        MappedSlide(None, COORDS, 100.0, (200, 200)), [panel()], tmp_path / "maps.png", title="S1"
    )
    with Image.open(tmp_path / "maps.png") as picture:
        assert round(picture.info["dpi"][0]) == plotting.DPI
