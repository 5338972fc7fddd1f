"""Tests of the documented commands on small public data: her2st sections and TCGA regions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tcgn_mil.checkpoints import read_encoder_info
from tcgn_mil.experiments import main as cli

pytestmark = [pytest.mark.realdata, pytest.mark.slow]
SECTIONS = ("B4", "C2", "C3", "C5")


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["tcgn-mil", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (None, 0)


@pytest.fixture(scope="module")
def pretrained(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sections read as spots and as slides, and an encoder of one epoch."""
    out = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        chosen = [option for name in SECTIONS for option in ("--section", name)]
        command(
            patch,
            "spots",
            real_data / "her2st",
            *chosen,
            "--out",
            out / "spots",
            "--slides-out",
            out / "slides",
        )
        genes = real_data / "her2st" / "gene_lists" / "tcgn_her2_785_genes.txt"
        command(
            patch,
            "pretrain",
            "--spots",
            out / "spots",
            "--val-section",
            "C5",
            "--test-section",
            "B4",
            "--set",
            f"panel.file={genes}",
            "--set",
            "model=tcgn_tiny",
            "--set",
            "training.epochs=1",
            "--set",
            "views=1",
            "--out",
            out / "encoder",
        )
    return out


def test_spots_are_those_of_the_publication(pretrained: Path) -> None:
    table = pd.read_csv(pretrained / "spots" / "sections.csv", index_col="section")
    assert table["spots"].to_dict() == {"B4": 283, "C2": 187, "C3": 180, "C5": 181}
    assert table["genes"].to_dict() == {"B4": 15289, "C2": 15706, "C3": 15821, "C5": 15721}
    assert table["mpp"].between(0.68, 0.70).all()
    assert table.loc["B4", "median_umi"] == 648


def test_baselines_on_b4_are_those_of_the_protocol(pretrained: Path) -> None:
    """Ridge on colour scores about 0.01 after depth is taken out, and depth scores nothing."""
    results = pd.read_csv(pretrained / "encoder" / "results.csv", index_col="predictor")
    assert results.loc["ridge_colour", "headline"] == pytest.approx(0.014, abs=0.02)
    assert abs(results.loc["depth_control", "headline"]) < 0.02
    assert results.loc["depth_control", "median_r_all"] > 0.1  # plain r is mostly depth
    assert results.loc["model", "genes_seen"] == 244
    encoder = read_encoder_info(pretrained / "encoder" / "encoder.safetensors")
    assert len(encoder.panel) == 785
    assert encoder.patch.um == pytest.approx(77.28)


def test_patients_cross_validated(
    pretrained: Path, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ridge on colour, trained on B4 alone or on C, scores what docs/protocol.md states."""
    genes = real_data / "her2st" / "gene_lists" / "tcgn_her2_785_genes.txt"
    command(
        monkeypatch,
        "spot-cv",
        "--spots",
        pretrained / "spots",
        "--set",
        f"panel.file={genes}",
        "--set",
        "model=resnet10t",
        "--set",
        "encoder_options.untrained=true",
        "--set",
        "input_px=32",
        "--set",
        "train=none",
        "--set",
        "validation=join",
        "--set",
        "views=1",
        "--set",
        "baselines=false",
        "--out",
        tmp_path / "cv",
    )
    sections = pd.read_csv(tmp_path / "cv" / "sections.csv")
    ridge = sections[sections["predictor"] == "ridge_colour"].set_index("section")
    assert ridge.loc["B4", "headline"] == pytest.approx(0.014, abs=0.02)
    assert (
        ridge.loc[["C2", "C3", "C5"], "headline"].abs().max() < 0.015
    )  # the protocol has -0.005, -0.001, 0.002
    np.testing.assert_allclose(
        ridge.loc[["C2", "C3", "C5"], "median_r_all"], [0.063, 0.061, 0.064], atol=0.005
    )
    np.testing.assert_allclose(
        ridge.loc[["C2", "C3", "C5"], "median_r_all_other"], [0.152, 0.142, 0.128], atol=0.01
    )
    assert ridge.loc["B4", "genes_seen"] == 244
    folds = pd.read_csv(tmp_path / "cv" / "folds.csv").groupby(["fold", "part"])["id"].agg(list)
    assert folds["B", "test"] == ["B4"]
    assert folds["C", "train"] == ["B4"]


def test_sections_as_slides_with_their_summed_counts(
    pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, slides = pretrained, pretrained / "slides" / "slides.csv"
    command(monkeypatch, "tile", slides, "--stride-px", 336, "--out", out / "tiles")
    encoder = out / "encoder" / "encoder.safetensors"
    command(
        monkeypatch,
        "encode",
        slides,
        "--tiles",
        out / "tiles",
        "--encoder",
        encoder,
        "--out",
        out / "features",
    )
    cohort = out / "cohort.h5ad"
    command(
        monkeypatch,
        "bulk",
        out / "slides" / "pseudobulk.csv",
        "--unit",
        "counts",
        "--slides",
        slides,
        "--out",
        cohort,
    )
    folds = out / "folds.csv"
    folds.write_text("fold,part,id\n0,train,C2\n0,train,C3\n0,val,C5\n0,test,B4\n")
    command(
        monkeypatch,
        "finetune",
        "--cohort",
        cohort,
        "--features",
        out / "features",
        "--folds",
        folds,
        "--set",
        "training.epochs=2",
        "--out",
        out / "model",
    )
    command(
        monkeypatch,
        "predict",
        "--model",
        out / "model",
        "--features",
        out / "features",
        "--thumbnails",
        out / "tiles",
        "--out",
        out / "predicted",
    )
    predicted = anndata.read_h5ad(out / "predicted" / "predicted.h5ad")
    assert sorted(predicted.obs_names) == list(SECTIONS)
    assert "log2(CPM + 1)" in predicted.uns["tcgn_mil"]
    assert np.isfinite(predicted["B4"].X).all()
    assert predicted.obs["relation"].to_dict() == {"B4": "out of fold"} | dict.fromkeys(
        ("C2", "C3", "C5"), "trained on"
    )
    assert (out / "predicted" / "maps" / "B4.png").stat().st_size > 10_000


def test_tcga_regions_with_their_rna(
    pretrained: Path, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = real_data / "tcga_tiles"
    tables = sorted((real_data / "tcga_expression").glob("tcga_*_all_clean.csv.zip"))
    command(monkeypatch, "tile", regions, "--mpp", 0.25, "--out", tmp_path / "tiles")
    encoder = pretrained / "encoder" / "encoder.safetensors"
    command(
        monkeypatch,
        "encode",
        regions,
        "--mpp",
        0.25,
        "--tiles",
        tmp_path / "tiles",
        "--encoder",
        encoder,
        "--out",
        tmp_path / "features",
    )
    command(
        monkeypatch,
        "bulk",
        *tables,
        "--unit",
        "zscore",
        "--slides",
        regions,
        "--out",
        tmp_path / "cohort.h5ad",
    )
    report = pd.read_csv(tmp_path / "join_report.csv")
    slides = report[report["kind"] == "slide"]
    assert len(slides) == 26
    assert sorted(slides.loc[~slides["kept"], "patient_id"]) == ["TCGA-B0-5698", "TCGA-B0-5710"]
    command(
        monkeypatch,
        "finetune",
        "--cohort",
        tmp_path / "cohort.h5ad",
        "--features",
        tmp_path / "features",
        "--set",
        "n_folds=3",
        "--set",
        "training.epochs=2",
        "--set",
        "cohorts=pooled",
        "--out",
        tmp_path / "model",
    )
    out_of_fold = anndata.read_h5ad(tmp_path / "model" / "out_of_fold.h5ad")
    assert out_of_fold.n_obs == 24
    assert out_of_fold.n_vars > 1500
    assert (
        np.nanmax(np.abs(out_of_fold.layers["truth"])) < 4
    )  # ranks, not z-scores with their tails of 1e4


def test_a_published_table_with_missing_values_from_import_to_prediction(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, cohort, model = (tmp_path / name for name in ("features", "cohort.h5ad", "model"))
    table = real_data / "tcga_hif" / "luad_hif.csv.gz"
    command(monkeypatch, "import-features", table, "--encoder", "hif", "--out", features)
    expression = real_data / "tcga_expression" / "tcga_luad_all_clean.csv.zip"
    slides = ("--slides", features / "slides.csv")
    command(monkeypatch, "bulk", expression, "--unit", "zscore", *slides, "--out", cohort)
    given = ("--cohort", cohort, "--features", features)
    command(monkeypatch, "slide-cv", *given, "--set", "refits=0", "--out", model)
    # The numbers of experiments/results/tcga.md, for one seed.
    splits = pd.read_csv(model / "splits.csv").pivot(
        index="predictor", columns="folds_by", values="median_r"
    )
    best = splits.loc[["ridge_mean_features", "kernel_mean_features"]].max()
    assert (splits.loc["model"] > best + 0.015).all()
    assert splits.loc["model", "patient"] == pytest.approx(0.247, abs=0.01)
    assert splits.loc["model", "patient"] > splits.loc["model", "site"] > 0.2
    coverage = json.loads((model / "summary.json").read_text())["coverage"]
    assert coverage["measured"] == pytest.approx(coverage["stated"], abs=0.02)
    scores = real_data / "tcga_hif" / "panimmune_luad.csv.gz"
    settings = ("--targets", scores, "--group-by", "site", "--set", "refits=0")
    command(monkeypatch, "slide-cv", *given, *settings, "--out", tmp_path / "scores")
    r = pd.read_csv(tmp_path / "scores" / "genes.csv").set_index("gene")["r_model"]
    assert len(r) == 160
    assert r["CD8A (score)"] > 0.5  # a gene of the cohort has this name too
    out = tmp_path / "predicted"
    command(monkeypatch, "predict", "--model", model, "--features", features, "--out", out)
    predicted = anndata.read_h5ad(out / "predicted.h5ad")
    assert predicted.n_obs == 444
    # Both slides of this patient lack the 72 features of one region.
    assert np.isfinite(predicted["TCGA-38-7271"].X).mean() > 0.99
