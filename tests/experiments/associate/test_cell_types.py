"""Tests of ``tcgn-mil associate --spots``: genes that follow a planted cell type are found."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate import run as association
from tcgn_mil.experiments.associate.cell_types import read_cell_types
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.io.expression_file import write_predictions
from tcgn_mil.types.genes import GenePanel

GENES = ("FOLLOWS", "OPPOSES", *(f"NULL{number}" for number in range(8)), "RARE")
SIDE = 12


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sections as spot-cv writes them, and a ZIP of cell types of one of them."""
    folder, rng = tmp_path_factory.mktemp("spots"), np.random.default_rng(2)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).reshape(-1, 2)
    names = [f"{x}x{y}" for x, y in grid]
    for number, section in enumerate(("A1", "B1")):
        share = rng.uniform(0, 1, len(grid))
        values = rng.normal(size=(len(grid), len(GENES)))
        values[:, 0] += 4 * share
        values[:, 1] -= 4 * share
        truth = values + rng.normal(size=values.shape)
        truth[5] = np.nan  # a spot too poor to have a value
        depth = rng.lognormal(8, 0.5, len(grid))
        obs = pd.DataFrame({"section": section, "total_counts": depth}, index=names)
        var = pd.DataFrame(
            {"detection": [0.5] * (len(GENES) - 1) + [0.1]}, index=pd.Index(GENES, name="gene")
        )
        write_predictions(
            folder / f"fold_{number}" / f"predicted_{section}.h5ad",
            values,
            obs,
            GenePanel(GENES),
            unit="log1p",
            var=var,
            layers={"truth": truth},
            obsm={"spatial": 100.0 * grid},
        )
        if section == "A1":
            types = pd.DataFrame(
                {"T-cells": share, "Other": rng.uniform(size=len(grid))}, index=names
            ).iloc[3:]
            with zipfile.ZipFile(folder / "types.zip", "w") as archive:
                archive.writestr("major/A1-proportion.tsv", types.to_csv(sep="\t"))
    return folder


def test_genes_follow_the_planted_cell_type(spots: Path, tmp_path: Path) -> None:
    config = AssociationConfig(spots=str(spots), cell_types=str(spots / "types.zip"))
    summary = association.run(config, tmp_path / "out")
    assert summary["sections"] == ["A1"]
    assert summary["without_cell_types"] == ["B1"]
    assert summary["spots"] == {"A1": SIDE**2 - 4}
    table = pd.read_csv(tmp_path / "out" / "cell_types.csv").set_index(["cell_type", "gene"])
    assert "RARE" not in table.index.get_level_values("gene")
    assert table.loc[("T-cells", "FOLLOWS"), "r_predicted"] > 0.6
    assert table.loc[("T-cells", "OPPOSES"), "r_predicted"] < -0.6
    assert (
        table.loc[[("T-cells", "FOLLOWS"), ("T-cells", "OPPOSES")], ["q_predicted", "q_measured"]]
        < 0.01
    ).all(None)
    assert (table.loc["Other", "q_predicted"] > 0.05).all()
    (found,) = [row for row in summary["cell_types"] if row["cell_type"] == "T-cells"]
    assert (found["predicted"], found["measured"], found["both"]) == (2, 2, 2)
    assert found["agreement"] > 0.3
    assert (tmp_path / "out" / "cell_types.png").stat().st_size > 5000


def test_one_file_and_a_folder_do_as_well(spots: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(spots / "types.zip") as archive:
        archive.extractall(tmp_path)
    found = read_cell_types(tmp_path / "major")
    assert list(found) == ["A1"]
    (tmp_path / "major" / "A1-proportion.tsv").rename(tmp_path / "major" / "P-1-A1-proportion.tsv")
    assert list(read_cell_types(tmp_path / "major")) == ["P-1-A1"]
    (tmp_path / "major" / "P-1-A1-proportion.tsv").rename(tmp_path / "major" / "A1-proportion.tsv")
    one = spots / "fold_0" / "predicted_A1.h5ad"
    config = AssociationConfig(
        spots=str(one), cell_types=str(tmp_path / "major" / "A1-proportion.tsv")
    )
    assert association.run(config, tmp_path / "out")["sections"] == ["A1"]


def test_bad_input(spots: Path, tmp_path: Path) -> None:
    def refused(**given: object) -> str:
        with pytest.raises(InputError) as caught:
            association.run(AssociationConfig(**({"spots": str(spots)} | given)), tmp_path / "out")
        return str(caught.value)

    types = str(spots / "types.zip")
    assert "without the cell types of the spots" in refused()
    assert "no such file or folder of cell types" in refused(cell_types=str(tmp_path / "none.zip"))
    assert "holds no predicted_<section>.h5ad" in refused(spots=str(tmp_path), cell_types=types)
    (tmp_path / "no.zip").write_text("text")
    assert "cannot be read as ZIP" in refused(cell_types=str(tmp_path / "no.zip"))
    (tmp_path / "Z9-proportion.tsv").write_text("\tT\n0x0\t0.5\n")
    message = refused(cell_types=str(tmp_path / "Z9-proportion.tsv"))
    assert "has cell types of Z9, but of no section of the predictions (A1, B1)" in message
    (tmp_path / "A1-proportion.tsv").write_text("\tT\n0x0\tmany\n")
    assert "something else than numbers" in refused(cell_types=str(tmp_path / "A1-proportion.tsv"))
    (tmp_path / "A1-proportion.tsv").write_text("\tT\n0x0\t0.5\n")
    assert "section A1: 1 spots have cell types" in refused(
        cell_types=str(tmp_path / "A1-proportion.tsv")
    )
