"""Tests of the recipe of HEST-Bench: its formula, its genes and its refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from spot_runs import config_of
from spot_sections import GENES

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level import cross_validate as spot_cv
from tcgn_mil.experiments.spot_level import hest_protocol
from tcgn_mil.experiments.spot_level.config import PanelConfig, TargetConfig


def test_the_recipe_of_hest_bench(spots: Path, tmp_path: Path) -> None:
    (tmp_path / "genes.txt").write_text("\n".join(GENES), encoding="utf-8")
    config = config_of(
        spots,
        views=4,
        protocol="hest",
        target=TargetConfig(),
        panel=PanelConfig(str(tmp_path / "genes.txt")),
        min_umi=1,
    )
    summary = hest_protocol.run(config, tmp_path / "hest")
    genes = pd.read_csv(tmp_path / "hest" / "genes.csv")
    assert len(genes) == 2 * len(GENES)
    means = {row["fold"]: row["r"] for row in summary["results"]}
    folds = genes.groupby("fold")["r"].mean()
    assert means["mean"] == pytest.approx(folds.mean(), abs=1e-5)
    assert means["sd"] == pytest.approx(folds.std(ddof=0), abs=1e-5)
    assert any("untrained" in label for label in summary["labels"])


def test_hest_ridge_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    features, targets, new = (
        rng.standard_normal((80, 6)),
        rng.standard_normal((80, 3)) + 2,
        rng.standard_normal((9, 6)),
    )
    found = hest_protocol.hest_ridge(features, targets, new)
    mean, sd = features.mean(axis=0), features.std(axis=0)
    x, z = (
        (features - mean) / sd,
        (new - mean) / sd,
    )  # with all six components PCA is a rotation, which does not change ridge
    weights = np.linalg.solve(x.T @ x + 100 / (6 * 3) * np.eye(6), x.T @ targets)
    np.testing.assert_allclose(found, z @ weights, atol=2e-3)  # the solver stops early


def test_hest_takes_variable_genes_that_are_seen(spots: Path) -> None:
    sections = spot_cv.load_sections(config_of(spots))
    panel = hest_protocol.variable_genes(sections, count=6)
    assert sum(gene.startswith("BRIGHT") for gene in panel.genes) >= 5
    with pytest.raises(InputError, match="the recipe needs 50"):
        hest_protocol.variable_genes(sections)


def test_hest_refuses_what_it_has_no_use_for_and_genes_that_are_missing(
    spots: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no use for members, target"):
        hest_protocol.run(config_of(spots, protocol="hest", members=2), tmp_path / "a")
    (tmp_path / "genes.txt").write_text("\n".join((*GENES, "NOSUCH")), encoding="utf-8")
    panel = PanelConfig(str(tmp_path / "genes.txt"))
    config = config_of(spots, views=4, protocol="hest", target=TargetConfig(), panel=panel)
    with pytest.raises(InputError, match="lacks 1 of 13 panel genes: NOSUCH"):
        hest_protocol.run(config, tmp_path / "b")
