"""Test the figure of a slide's maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tcgn_mil.experiments.runs import slide_map_figure


def test_a_map_may_have_the_name_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[NDArray[np.floating]] = []
    draw = slide_map_figure._draw_tiles

    def record(*arguments: object) -> None:
        drawn.append(np.asarray(arguments[-1]))
        draw(*arguments)

    monkeypatch.setattr(slide_map_figure, "_draw_tiles", record)
    slide_map_figure.slide_maps(
        np.full((20, 20, 3), 255, np.uint8),
        np.array([[0, 0], [100, 0]]),
        100.0,
        (200, 200),
        {"attention": np.array([0.5, 1.5]), "slide": np.array([3.0, 4.0])},
        tmp_path / "maps.png",
        title="S1",
    )
    assert [values.tolist() for values in drawn] == [[0.5, 1.5], [3.0, 4.0]]
    assert (tmp_path / "maps.png").is_file()
