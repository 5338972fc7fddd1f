"""Test the comparison with planted truth on tables and maps that were made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from tcgn_mil.experiments.demo import truth_figure
from tcgn_mil.experiments.demo.planted_truth import (
    MappedTiles,
    by_kind,
    by_kind_and_followers,
    region_share,
    tile_auc,
)
from tcgn_mil.experiments.demo.synthetic.config import REGIONS
from tcgn_mil.experiments.demo.truth_figure import Comparison, slide_with_most_to_see

IMMUNE = REGIONS.index("immune") + 1


def test_medians_and_shares_are_by_kind(planted_run: Path, planted_cohort: Path) -> None:
    table = by_kind(planted_run, planted_cohort / "truth").set_index("kind")
    assert table["r_model"].to_dict() == pytest.approx(
        {"colour": 0.8, "morphology": 0.4, "null": 0.0}
    )
    assert table["r_ridge_colour"].to_dict() == pytest.approx(
        {"colour": 0.7, "morphology": 0.1, "null": 0.0}
    )
    assert table["predictable"].to_dict() == {"colour": 1, "morphology": 0.5, "null": 0}
    assert table["genes"].tolist() == [2, 2, 2]


def test_followers_are_all_genes_that_follow_tissue(
    planted_run: Path, planted_cohort: Path
) -> None:
    table = by_kind_and_followers(planted_run, planted_cohort / "truth").set_index("kind")
    assert table["genes"].to_dict() == {"followers": 4, "colour": 2, "morphology": 2, "null": 2}
    assert table.loc["followers", "r_model"] == pytest.approx(0.6)
    assert table.loc["followers", "r_ridge_colour"] == pytest.approx(0.4)


def test_a_tile_has_its_share_of_the_region() -> None:
    labels = np.zeros((10, 20), dtype=np.uint8)
    labels[:, :8] = IMMUNE
    share = region_share(labels, 10.0, np.array([[40.0, 40.0], [80.0, 40.0], [160.0, 40.0]]), 80.0)
    assert share == pytest.approx([1.0, 0.5, 0.0])


def test_a_map_is_judged_by_the_planted_tiles(planted_maps: Path, planted_cohort: Path) -> None:
    row = tile_auc(planted_maps, planted_cohort).iloc[0]
    assert (row["tiles"], row["immune"]) == (4, 2)
    assert (row["G0"], row["attention"]) == (1.0, 0.0)


def test_pooled_r_is_used_where_there_is_none_within_folds(
    planted_run: Path, planted_cohort: Path
) -> None:
    table = pd.read_csv(planted_run / "genes.csv")
    table = table.assign(pooled_r_model=table["r_model"], r_model=np.nan, r_ridge_colour=np.nan)
    table.to_csv(planted_run / "genes.csv", index=False)
    found = by_kind(planted_run, planted_cohort / "truth").set_index("kind")
    assert found["pooled_r_model"].to_dict() == pytest.approx(
        {"colour": 0.8, "morphology": 0.4, "null": 0.0}
    )


def test_the_slide_is_chosen_by_its_rarest_tissue(tmp_path: Path) -> None:
    pd.DataFrame(
        {
            "slide": ["a", "b", "c"],
            "immune": [0.5, 0.2, 0.3],
            "tumour_a": [0.1, 0.3, 0.3],
            "tumour_b": [0.1, 0.2, 0.3],
        }
    ).to_csv(tmp_path / "fractions.csv", index=False)
    assert slide_with_most_to_see(tmp_path, ["a", "b", "c"]) == "c"
    assert slide_with_most_to_see(tmp_path, ["a", "b"]) == "b"  # c was not predicted


def test_truth_and_prediction_are_drawn_beside_each_other(
    planted_maps: Path, planted_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (40, 20), (200, 150, 180)).save(tmp_path / "slide.jpg")
    drawn = []
    draw = truth_figure._draw

    def record(
        figure: Figure, axis: Axes, tiles: MappedTiles, values: Any, scale: Any, title: str
    ) -> None:
        drawn.append((title, values.tolist()))
        draw(figure, axis, tiles, values, scale, title)

    monkeypatch.setattr(truth_figure, "_draw", record)
    path = tmp_path / "figure.png"
    compared = [Comparison(("immune",), ("fat",), "immune minus fat", "G0")]
    truth_figure.draw_truth(
        planted_maps / "S1.h5ad", planted_cohort, tmp_path / "slide.jpg", compared, path
    )
    assert drawn == [
        ("truth: immune minus fat", [1.0, 1.0, 0.0, 0.0]),
        ("predicted: G0", [4.0, 3.0, 2.0, 1.0]),
    ]
    with Image.open(path) as figure:
        assert figure.width > 2 * figure.height  # one row of three panels
