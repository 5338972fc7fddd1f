"""Test the maps of a section: the picture beside measured and predicted values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.experiments.runs.spot_map_figure import MappedSection, draw_spot_maps, spot_maps

SPATIAL = np.array([[x, y] for x in (50.0, 150, 250) for y in (50.0, 150)])
SECTION = MappedSection(SPATIAL, 1.0, np.full((30, 40, 3), 200, np.uint8), (0, 300, 200, 0))


def test_the_figure_says_which_r_it_shows_and_has_the_picture_beside_the_maps() -> None:
    truth = np.arange(12.0).reshape(6, 2)
    figure = draw_spot_maps(
        SECTION,
        ["A", "B"],
        truth,
        truth / 10,
        unit="log counts",
        title="section S",
        notes=["depth-adjusted r 0.40", "depth-adjusted r 0.10"],
    )
    titles = [axis.get_title() for axis in figure.axes[:6]]
    assert titles[:3] == ["A\ndepth-adjusted r 0.40", "measured", "predicted"]
    assert figure.axes[0].images
    assert {axis.get_ylabel() for axis in figure.axes[6:]} == {"log counts"}
    assert figure.get_suptitle() == "section S, n = 6 spots"
    assert SECTION.pitch == 100


def test_spots_without_a_value_are_left_out_and_values_are_written(tmp_path: Path) -> None:
    truth = np.ones((6, 1))
    truth[0] = np.nan
    spot_maps(SECTION, ["A"], truth, np.ones((6, 1)), tmp_path / "m.png", unit="u", title="S")
    table = pd.read_csv(tmp_path / "m_figure.csv")
    assert list(table) == ["gene", "x", "y", "measured", "predicted"]
    assert table["measured"].isna().sum() == 1


@pytest.mark.parametrize("genes", [0, 1])
def test_a_section_of_one_spot_can_be_drawn(genes: int) -> None:
    section = MappedSection(np.array([[5.0, 5.0]]), 1.0, None, (0, 10, 10, 0))
    values = np.ones((1, genes))
    figure = draw_spot_maps(
        section, ["A"] * genes, values, values, unit="u", title="S", notes=[""] * genes
    )
    assert len(figure.axes) == (5 if genes else 3)
