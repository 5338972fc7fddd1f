"""Test the benchmark on planted truth with tables and maps that were made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tcgn_mil.experiments.benchmarks.planted import main, zero_shot_p
from tcgn_mil.experiments.demo.planted_truth import (
    by_kind,
    by_kind_and_followers,
    region_share,
    tile_auc,
)
from tcgn_mil.experiments.demo.synthetic.config import REGIONS

IMMUNE = REGIONS.index("immune") + 1
MPP, SIDE_PX = 0.5, 200


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Write two genes of each kind, and a slide of 400 x 200 µm whose left half is immune."""
    truth = tmp_path / "cohort" / "truth"
    (truth / "regions").mkdir(parents=True)
    kinds = ["colour", "colour", "morphology", "morphology", "null", "null"]
    pd.DataFrame({"gene": [f"G{i}" for i in range(6)], "kind": kinds}).to_csv(
        truth / "genes.csv", index=False
    )
    labels = np.zeros((25, 50), dtype=np.uint8)
    labels[:, :25] = IMMUNE
    np.savez(truth / "regions" / "S1.npz", labels=labels, mpp=8.0)
    pd.DataFrame({"slide_id": ["S1"], "mpp": [MPP]}).to_csv(
        tmp_path / "cohort" / "slides.csv", index=False
    )
    return tmp_path / "cohort"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    pd.DataFrame(
        {
            "gene": [f"G{i}" for i in range(6)],
            "r_model": [0.9, 0.7, 0.5, 0.3, 0.1, -0.1],
            "r_ridge_colour": [0.8, 0.6, 0.0, 0.2, 0.0, 0.0],
            "predictable": [True, True, True, False, False, False],
        }
    ).to_csv(folder / "genes.csv", index=False)
    return folder


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """Write a map of four tiles: a gene is highest on the left, attention on the right."""
    folder = tmp_path / "predictions" / "maps"
    folder.mkdir(parents=True)
    obs = pd.DataFrame(
        {"attention": [0.1, 0.2, 0.3, 0.4], "attention_relative": [0.4, 0.8, 1.2, 1.6]}
    ).set_index(pd.Index(list("abcd")))
    found = anndata.AnnData(
        X=np.array([[4.0], [3.0], [2.0], [1.0]]), obs=obs, var=pd.DataFrame(index=["G0"])
    )
    found.obsm["spatial"] = np.array([[100.0 + SIDE_PX * i, 200.0] for i in range(4)])
    found.uns["tcgn_mil"] = json.dumps({"level0_px": SIDE_PX})
    found.write_h5ad(folder / "S1.h5ad")
    return folder


def test_medians_and_shares_are_by_kind(run: Path, cohort: Path) -> None:
    table = by_kind(run, cohort / "truth").set_index("kind")
    assert table["r_model"].to_dict() == pytest.approx(
        {"colour": 0.8, "morphology": 0.4, "null": 0.0}
    )
    assert table["r_ridge_colour"].to_dict() == pytest.approx(
        {"colour": 0.7, "morphology": 0.1, "null": 0.0}
    )
    assert table["predictable"].to_dict() == {"colour": 1, "morphology": 0.5, "null": 0}
    assert table["genes"].tolist() == [2, 2, 2]


def test_followers_are_all_genes_that_follow_tissue(run: Path, cohort: Path) -> None:
    table = by_kind_and_followers(run, cohort / "truth").set_index("kind")
    assert table["genes"].to_dict() == {"followers": 4, "colour": 2, "morphology": 2, "null": 2}
    assert table.loc["followers", "r_model"] == pytest.approx(0.6)
    assert table.loc["followers", "r_ridge_colour"] == pytest.approx(0.4)


def test_a_tile_has_its_share_of_the_region() -> None:
    labels = np.zeros((10, 20), dtype=np.uint8)
    labels[:, :8] = IMMUNE
    share = region_share(labels, 10.0, np.array([[40.0, 40.0], [80.0, 40.0], [160.0, 40.0]]), 80.0)
    assert share == pytest.approx([1.0, 0.5, 0.0])


def test_a_map_is_judged_by_the_planted_tiles(maps: Path, cohort: Path) -> None:
    row = tile_auc(maps, cohort).iloc[0]
    assert (row["tiles"], row["immune"]) == (4, 2)
    assert (row["G0"], row["attention"]) == (1.0, 0.0)


def test_writes_tables_and_a_figure(
    run: Path, maps: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "planted"
    main([str(cohort), "--runs", str(run), "--maps", str(maps), "--out", str(out)])
    assert "morphology" in capsys.readouterr().out
    assert pd.read_csv(out / "genes.csv")["run"].unique().tolist() == ["run"]
    assert pd.read_csv(out / "tiles.csv")["run"].unique().tolist() == ["predictions"]
    assert (out / "planted.png").stat().st_size > 1000


@pytest.mark.parametrize(("knows", "low", "high"), [(1.0, 0.0, 0.02), (0.0, 0.05, 1.0)])
def test_zero_shot_is_judged_by_permuted_labels(
    tmp_path: Path, knows: float, low: float, high: float
) -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((30, 5))
    found = anndata.AnnData(
        X=np.zeros((30, 5)),
        obs=pd.DataFrame({"fold": np.arange(30) % 3}, index=map(str, range(30))),
    )
    found.layers["truth"] = truth
    found.obsm["baseline_zero_shot"] = knows * truth + rng.standard_normal((30, 5))
    found.write_h5ad(tmp_path / "out_of_fold.h5ad")
    r, p = zero_shot_p(tmp_path, permutations=99)
    assert low <= p <= high
    assert (r > 0.5) == (knows > 0)
