"""Test that the benchmark of the flag makes the tiles, and counts the alarms, that it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.experiments.benchmarks.out_of_distribution import __main__ as benchmark
from tcgn_mil.experiments.benchmarks.out_of_distribution.shifted_tiles import (
    PART_TILES,
    other_scanner,
    other_stain,
    parts_of,
    synthetic_config,
    synthetic_patients,
)
from tcgn_mil.inference.tile_encoder import open_encoder


def test_shares_are_those_of_the_patients_that_are_flagged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bags = [rng.standard_normal((20, 6)) for _ in range(100)]
    sets = {"same": bags[60:], "other": [bag + 4 for bag in bags[60:]]}
    flagged = benchmark.judge(bags[:60], sets)
    assert flagged["other"].now == flagged["other"].before == flagged["other"].before_5 == 1
    assert flagged["same"].now < 0.2
    assert flagged["same"].before <= flagged["same"].before_5 < 0.25
    rows = benchmark._rows("here", bags[:60], sets, 0)
    table = benchmark.mean_table(pd.DataFrame([{"encoder": "none", **row} for row in rows]))
    assert "| none | here | 60 | other | 40 | 100.0 % | 100.0 % | 100.0 % |" in benchmark.markdown(
        table
    )
    benchmark.draw(table, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").is_file()


def test_bags_are_kept_for_another_run(tmp_path: Path) -> None:
    made = {"a": [np.ones((2, 3)), np.zeros((1, 3))], "b": [np.ones((1, 3))]}
    path = tmp_path / "bags.npz"
    benchmark.kept(path, lambda: made)
    again = benchmark.kept(path, lambda: pytest.fail("made twice"))
    assert {name: [bag.tolist() for bag in bags] for name, bags in again.items()} == {
        name: [bag.tolist() for bag in bags] for name, bags in made.items()
    }


def test_parts_are_squares_with_enough_tiles() -> None:
    coords = np.stack(np.meshgrid(np.arange(20), np.arange(21)), axis=-1).reshape(-1, 2) * 100
    parts = parts_of(coords, 1000)
    # The last row of tiles makes two parts of 10 tiles, which are too small.
    assert [len(rows) for rows in parts] == [PART_TILES[1]] * 4
    for rows in parts:
        assert len(np.unique(coords[rows] // 1000, axis=0)) == 1


def test_stain_and_scanner_change_the_colours() -> None:
    rng = np.random.default_rng(1)
    tiles = rng.integers(120, 220, (2, 32, 32, 3), dtype=np.uint8)
    stained, scanned = other_stain(tiles), other_scanner(tiles)
    assert stained.shape == scanned.shape == tiles.shape
    assert np.abs(stained.astype(int) - tiles).mean() > 3
    assert scanned.std() < 0.7 * tiles.std()


def test_synthetic_patients_have_tiles_of_tissue() -> None:
    config = synthetic_config(0, 6)
    encoder = open_encoder("timm:resnet10t", untrained=True)
    plain, small = (
        next(synthetic_patients(config, config.patients[:1], kind, encoder))
        for kind in ("plain", "33 µm")
    )
    assert plain.shape[1] == small.shape[1] == 512
    assert len(small) >= len(plain) > 20


@pytest.mark.realdata
@pytest.mark.slow
def test_other_cancers_are_flagged_more_often_than_by_the_earlier_score(real_data: Path) -> None:
    if not (real_data / "tcga_hif").is_dir():
        pytest.skip("no tcga_hif among the real data")
    cancers = benchmark.read_cancers(real_data / "tcga_hif")
    assert {name: len(bags) for name, bags in cancers.items()} == {
        "brca": 696,
        "luad": 444,
        "lusc": 412,
    }
    rows = pd.DataFrame(benchmark.cancer_rows({"brca": cancers["brca"], "lusc": cancers["lusc"]}))
    shares = rows[rows["training"] > 100].groupby(["setting", "set"])[["now", "before_5"]].mean()
    held = shares.xs(benchmark.HELD, level="set")
    assert held["now"].between(0.02, 0.08).all()
    others = shares.drop(index=benchmark.HELD, level="set")
    assert (others["now"] > 0.5).all()
    assert (others["now"] > others["before_5"] + 0.2).all()
