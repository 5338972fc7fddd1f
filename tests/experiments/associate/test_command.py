"""Tests of the command ``tcgn-mil associate``, also on real data."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import anndata
import pandas as pd
import pytest

from tcgn_mil.experiments import main as cli


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def test_the_command(files: Path, tmp_path: Path, command) -> None:
    covariates = (
        "--covariates",
        files / "covariates.csv",
        "--covariate",
        "noise",
        "--follow",
        "leukocytes",
    )
    options = (
        "associate",
        "--predicted",
        files / "out_of_fold.h5ad",
        *covariates,
        "--set",
        "permutations=50",
    )
    code, out, _ = command(*options, "--show-config")
    assert code == 0
    assert "permutations: 50" in out
    code, out, err = command(*options, "--out", tmp_path / "out")
    assert code == 0, err
    assert "TLS_CHEMOKINE_12" in out
    assert "genes follow leukocytes (covariate) at q < 0.05" in out
    assert err.count("T_CELL_5: none of its 5 genes is there") == 1
    code, _, err = command(
        "associate", "--predicted", tmp_path / "none.h5ad", "--out", tmp_path / "x"
    )
    assert code == 2
    assert "none.h5ad: there is no such file or folder (--predicted)" in err


@pytest.mark.realdata
def test_measured_signatures_follow_the_leukocyte_fraction(
    real_data: Path, tmp_path: Path, command
) -> None:
    """TCGA-BRCA, 956 patients of z-scored RNA against Thorsson et al. 2018."""
    table = real_data / "tcga_expression" / "tcga_brca_all_clean.csv.zip"
    cohort = tmp_path / "cohort.h5ad"
    assert command("bulk", table, "--unit", "zscore", "--slides", table, "--out", cohort)[0] == 0
    assert anndata.read_h5ad(cohort).n_obs == 956
    covariates = real_data / "tcga_expression" / "tcga_purity_immune_covariates.csv"
    started = time.monotonic()
    code, _, err = command(
        "associate",
        "--predicted",
        cohort,
        "--covariates",
        covariates,
        "--zero-unknown",
        "purity",
        "--adjust-for",
        "purity",
        "--follow",
        "leukocyte_fraction",
        "--out",
        tmp_path / "out",
    )
    assert code == 0, err
    assert time.monotonic() - started < 60
    found = pd.read_csv(tmp_path / "out" / "covariates.csv")
    found = found[
        (found["covariate"] == "leukocyte_fraction") & (found["kind"] == "signature")
    ].set_index("name")
    for name, r in (("TLS_CHEMOKINE_12", 0.81), ("T_CELL_5", 0.83), ("T_CELL_INFLAMED_18", 0.82)):
        assert found.loc[name, "effect"] == pytest.approx(r, abs=0.02)
        assert found.loc[name, "n"] == 930
    coverage = pd.read_csv(tmp_path / "out" / "coverage.csv").set_index("set")
    assert coverage.loc[
        ["TLS_CHEMOKINE_12", "T_CELL_5", "T_CELL_INFLAMED_18"], "present"
    ].tolist() == [12, 5, 9]
    missing = "CMKLR1;HLA-DQA1;HLA-DRB1;HLA-E;IDO1;NKG7;PSMB10;STAT1;TIGIT"
    assert coverage.loc["T_CELL_INFLAMED_18", "missing_genes"] == missing
    assert "without CMKLR1, HLA-DQA1" in err
