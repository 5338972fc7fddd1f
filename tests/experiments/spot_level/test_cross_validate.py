"""Tests of cross-validation on small sections: files, resuming, refusals and comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from spot_runs import PATIENTS, TRAINING, config_of
from spot_sections import GENES, write_sections

from tcgn_mil.checkpoints import read_encoder_info
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level import cross_validate as spot_cv
from tcgn_mil.experiments.spot_level import pretrain as pretraining
from tcgn_mil.experiments.spot_level import train_network as spot_training
from tcgn_mil.experiments.spot_level.compare_runs import compare_runs
from tcgn_mil.experiments.spot_level.config import PanelConfig
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.models.encoders import create_encoder


@pytest.fixture(scope="module")
def finished(spots: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run over two folds, and its summary."""
    out = tmp_path_factory.mktemp("run") / "cv"
    return out, spot_cv.run(config_of(spots), out)


def test_the_summary_opens_with_the_headline_and_its_baselines(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    out, summary = finished
    written = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(summary))
    assert list(written)[:2] == ["sentence", "headline"]
    assert set(written["headline"]["baselines"]) == {
        "untrained",
        "ridge_colour",
        "depth_control",
        "log_total",
        "training_mean",
    }
    assert "ridge on colour" in written["sentence"]
    assert written["patient_leakage"] == []
    assert any("approximate" in label for label in written["labels"])
    assert written["headline"]["baselines"]["ridge_colour"] > 0.1  # brightness is planted


def test_every_section_is_tested_once_with_its_tables_maps_and_predictions(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    out, _ = finished
    sections = pd.read_csv(out / "sections.csv")
    assert sorted(sections["section"].unique()) == sorted(PATIENTS)
    assert (sections.groupby("section")["predictor"].nunique() == 6).all()
    for name in PATIENTS:
        (path,) = out.glob(f"fold_*/predicted_{name}.h5ad")
        predicted = anndata.read_h5ad(path)
        assert predicted.shape == (121, len(GENES))
        assert predicted.layers["truth"].shape == predicted.shape
        assert predicted.obsm["spatial"].shape == (121, 2)
        assert predicted.obs["total_counts"].min() >= 100
        assert (path.parent / f"maps_{name}.png").stat().st_size > 5000
        genes = pd.read_csv(path.parent / f"genes_{name}.csv", index_col="gene")
        assert {
            "depth_adjusted_r_model",
            "low_model",
            "high_model",
            "p_model",
            "q_model",
            "predictable",
        } <= set(genes)
    for figure in ("headline.png", "detection.png", "genes.png", "curves.png"):
        assert (out / figure).stat().st_size > 5000
    folds = pd.read_csv(out / "folds.csv", dtype=str)
    assert (folds.groupby("fold")["part"].nunique() == 3).all()
    genes = pd.read_csv(out / "genes.csv", index_col="gene")
    assert (genes["sections"] == 5).all()
    found = pd.read_csv(out / "predictable_genes.csv")
    assert set(found["gene"]) == set(genes.index[genes["predictable"]])


def test_results_name_both_normalisations(finished: tuple[Path, dict[str, Any]]) -> None:
    out, _ = finished
    sections = pd.read_csv(out / "sections.csv")
    assert (sections["normalisation"] == "library").all()
    assert (sections["other_normalisation"] == "published").all()
    ridge = sections[sections["predictor"] == "ridge_colour"]
    # All measured genes are in the panel, so the two normalisations are the same here.
    np.testing.assert_allclose(ridge["median_r_all_other"], ridge["median_r_all"], atol=1e-4)


def test_each_network_leaves_an_encoder_and_its_log(finished: tuple[Path, dict[str, Any]]) -> None:
    out, _ = finished
    (fold, *_) = sorted(out.glob("fold_*"))
    info = read_encoder_info(fold / "model_0" / "encoder.safetensors")
    assert (info.model, info.input_spec.size_px) == ("resnet10t", 32)
    assert set(info.panel.genes) == set(GENES)
    assert open_encoder(str(fold / "model_0" / "encoder.safetensors")).input_spec.size_px == 32
    assert len(pd.read_csv(fold / "model_0" / "history.csv")) == 2
    assert list((fold / "model_0" / "tensorboard").glob("events*"))
    assert not list(out.rglob("state.safetensors"))
    assert not list(out.rglob(".*tmp*"))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_numbers(
    finished: tuple[Path, dict[str, Any]],
    spots: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, _ = finished
    written = []

    class Killed(spot_training.TensorBoardLog):
        def __call__(self, epoch: int, history: Any) -> None:
            super().__call__(epoch, history)
            written.append(epoch)
            if len(written) == 3:  # the first epoch of the second fold
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(spot_training, "TensorBoardLog", Killed)
        with pytest.raises(KeyboardInterrupt):
            spot_cv.run(config_of(spots), tmp_path / "cv")
    assert not (tmp_path / "cv" / "summary.json").exists()
    assert list(tmp_path.rglob("state.safetensors"))
    spot_cv.run(config_of(spots), tmp_path / "cv")
    # The curves show every epoch, also those of folds and epochs from before the end.
    histories = sorted(path.relative_to(expected) for path in expected.rglob("history.csv"))
    assert len(pd.read_csv(expected / "curves_figure.csv")) == 2 * len(histories)
    tables = ("genes.csv", "sections.csv", "summary.csv", "curves_figure.csv")
    for name in (*tables, *histories):
        assert (tmp_path / "cv" / name).read_bytes() == (expected / name).read_bytes(), name
    weights = sorted(
        path.relative_to(expected) for path in expected.rglob("model_0/encoder.safetensors")
    )
    assert len(weights) == 2
    for path in weights:
        first, second = (load_file(folder / path) for folder in (expected, tmp_path / "cv"))
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_finished_run_is_not_run_again(
    finished: tuple[Path, dict[str, Any]], spots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, summary = finished
    monkeypatch.setattr(spot_cv, "load_sections", None)
    assert spot_cv.run(config_of(spots), out)["headline"] == summary["headline"]


def test_a_finished_run_is_not_returned_for_other_spots(
    finished: tuple[Path, dict[str, Any]], spots: Path
) -> None:
    path = spots / "A1.h5ad"
    kept = path.read_bytes()
    try:
        adata = anndata.read_h5ad(path)
        adata.X = adata.X * 2
        adata.write_h5ad(path)
        with pytest.raises(InputError, match="a finished run on other inputs: spots changed"):
            spot_cv.run(config_of(spots), finished[0])
    finally:
        path.write_bytes(kept)
    assert spot_cv.run(config_of(spots), finished[0])["headline"] == finished[1]["headline"]


def test_a_run_whose_config_changed_is_refused_with_the_keys(
    finished: tuple[Path, dict[str, Any]], spots: Path
) -> None:
    out, _ = finished
    changed = config_of(spots, views=4, training=replace(TRAINING, lr=1e-3))
    with pytest.raises(InputError, match=r"another config; differing keys: views, training.lr"):
        spot_cv.run(changed, out)


def test_sections_left_out_one_by_one_and_epochs_chosen_on_test_are_labelled(
    spots: Path, tmp_path: Path
) -> None:
    folds = tmp_path / "folds.csv"
    folds.write_text("fold,part,id\nx,train,A1\nx,val,B\nx,test,A2\n", encoding="utf-8")
    config = config_of(
        spots,
        group_by="section",
        folds=str(folds),
        select_on_test=True,
        normalisation="published",
        baselines=False,
    )
    summary = spot_cv.run(config, tmp_path / "cv")
    assert summary["patient_leakage"] == ["A"]
    text = " ".join(summary["labels"])
    assert "patient leakage: A" in text
    assert "selected on test" in text
    assert "published normalisation" in text
    assert "small_network" not in summary["headline"]["baselines"]
    assert pd.read_csv(tmp_path / "cv" / "folds.csv").query("part == 'train'")["id"].tolist() == [
        "A1",
        "B1",
    ]


def test_a_ridge_head_on_frozen_features_and_averaged_members(spots: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds.csv"
    folds.write_text("fold,part,id\nx,train,A\nx,val,B\nx,test,C\n", encoding="utf-8")
    config = config_of(spots, folds=str(folds), train="none", members=2, baselines=False, views=4)
    summary = spot_cv.run(config, tmp_path / "cv")
    assert summary["headline"]["model"] > 0.1  # random features know brightness
    found = sorted(path.parent.name for path in (tmp_path / "cv").rglob("encoder.safetensors"))
    assert found == ["model_0", "model_1"]
    assert not list((tmp_path / "cv").rglob("history.csv"))


def test_a_head_alone_trains_on_a_frozen_encoder(spots: Path, tmp_path: Path) -> None:
    config = replace(
        config_of(spots, train="head"),
        n_folds=0,
        val_sections=("B1",),
        test_sections=("C1",),
    )
    pretraining.run(config, tmp_path / "encoder")
    torch.manual_seed(config.training.seed)
    study_genes = len(read_encoder_info(tmp_path / "encoder" / "encoder.safetensors").panel)
    start = create_encoder("resnet10t", study_genes, input_px=32).state_dict()
    trained = load_file(tmp_path / "encoder" / "encoder.safetensors")
    same = {name for name in start if torch.equal(start[name], trained[name])}
    assert {name for name in start if not name.startswith("fc.")} == same - {"fc.weight", "fc.bias"}
    assert not {"fc.weight"} & same


def test_two_runs_side_by_side(
    finished: tuple[Path, dict[str, Any]], spots: Path, tmp_path: Path
) -> None:
    first, _ = finished
    second = tmp_path / "ridge"
    spot_cv.run(config_of(spots, train="none", baselines=False), second)
    rows = compare_runs(first, second, tmp_path / "compared")
    assert [row["section"] for row in rows] == [
        *sorted(PATIENTS, key=[row["section"] for row in rows].index),
        "mean of sections",
    ]
    genes = pd.read_csv(tmp_path / "compared" / "comparison.csv")
    one = genes[genes["section"] == "B1"].set_index("gene")
    for column, run in (("r_a", first), ("r_b", second)):
        (path,) = run.glob("fold_*/genes_B1.csv")
        expected = pd.read_csv(path, index_col="gene")["depth_adjusted_r_model"]
        np.testing.assert_allclose(one[column], expected.reindex(one.index), atol=1e-3)
    np.testing.assert_allclose(one["difference"], one["r_b"] - one["r_a"], atol=1e-5)
    keys = json.loads((tmp_path / "compared" / "comparison.json").read_text(encoding="utf-8"))[
        "differing_keys"
    ]
    assert set(keys) == {"train", "baselines"}
    assert (tmp_path / "compared" / "comparison.png").stat().st_size > 5000
    mean = rows[-1]
    assert mean["low"] < mean["difference"] < mean["high"]
    same = compare_runs(first, first, tmp_path / "same")
    assert all(row["difference"] == row["low"] == row["high"] == 0 for row in same)


def test_only_finished_runs_are_compared(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="holds no run of spot-cv"):
        compare_runs(finished[0], tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_sections": ("A1",)}, "test_sections are for pretrain"),
        ({"n_folds": 9}, "cannot be cut into 9 folds"),
        ({"model": "resnet10x"}, "did you mean resnet10t"),
        ({"map_genes": ("TP53",)}, "map_genes names TP53"),
    ],
)
def test_settings_that_cannot_be(
    spots: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        spot_cv.run(config_of(spots, **changes), tmp_path / "cv")


def test_genes_that_are_constant_have_no_answer_and_stop_nothing(tmp_path: Path) -> None:
    folder = write_sections(tmp_path / "spots", {"A1": "A", "B1": "B"})
    for name in ("A1", "B1"):
        path = folder / f"{name}.h5ad"
        adata = anndata.read_h5ad(path)
        adata.X[:, 0] = 0
        adata.write_h5ad(path)
    (tmp_path / "genes.txt").write_text("\n".join(GENES), encoding="utf-8")
    config = config_of(
        folder,
        n_folds=0,
        validation="join",
        train="none",
        baselines=False,
        panel=PanelConfig(str(tmp_path / "genes.txt")),
    )
    spot_cv.run(config, tmp_path / "cv")
    genes = pd.read_csv(tmp_path / "cv" / "genes.csv", index_col="gene")
    assert genes.loc["BRIGHT0", ["r_model", "depth_adjusted_r_model", "q_model"]].isna().all()
    assert not genes.loc["BRIGHT0", "predictable"]
    assert genes.loc["BRIGHT1", "sections"] == 2


def test_pretrain_refuses_what_only_cross_validation_does(spots: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="members is for spot-cv"):
        pretraining.run(config_of(spots, members=2), tmp_path / "encoder")


def test_baselines_of_a_validation_section_have_not_seen_it(spots: Path, tmp_path: Path) -> None:
    config = replace(config_of(spots, train="none", n_folds=0), val_sections=("D1",))
    pretraining.run(config, tmp_path / "validated")
    tested = replace(
        config_of(spots, train="none", n_folds=0), val_sections=("C1",), test_sections=("D1",)
    )
    pretraining.run(tested, tmp_path / "tested")
    found = [
        pd.read_csv(tmp_path / name / "results.csv", index_col="predictor")
        for name in ("validated", "tested")
    ]
    # Ridge is fitted on the same four sections in both cases, so a section has the same r as
    # validation and as test section.
    for column in ("headline", "median_r_all"):
        assert found[0].loc["ridge_colour", column] == pytest.approx(
            found[1].loc["ridge_colour", column], abs=1e-5
        )


def test_a_checkpoint_of_other_genes_is_refused(
    finished: tuple[Path, dict[str, Any]], spots: Path, tmp_path: Path
) -> None:
    (path, *_) = sorted(finished[0].glob("fold_*/model_0/encoder.safetensors"))
    (tmp_path / "genes.txt").write_text("\n".join(reversed(GENES)), encoding="utf-8")
    config = config_of(spots, checkpoint=str(path), panel=PanelConfig(str(tmp_path / "genes.txt")))
    with pytest.raises(InputError, match="same genes in another order"):
        spot_cv.run(config, tmp_path / "cv")


def test_a_run_does_not_go_on_with_other_folds_or_spots(spots: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds.csv"
    folds.write_text("fold,part,id\nx,train,A1\nx,val,B\nx,test,C\n", encoding="utf-8")
    config = config_of(spots, folds=str(folds), train="none", baselines=False)
    spot_cv.run(config, tmp_path / "cv")
    (tmp_path / "cv" / "summary.json").unlink()  # as if the run had been interrupted
    folds.write_text("fold,part,id\nx,train,C\nx,val,B\nx,test,A1\n", encoding="utf-8")
    with pytest.raises(InputError, match="an unfinished run on other inputs: folds changed"):
        spot_cv.run(config, tmp_path / "cv")
    (tmp_path / "cv" / "inputs.json").unlink()  # as in runs from before inputs were recorded
    with pytest.raises(InputError, match=r"folds.csv: differs from the folds of this run"):
        spot_cv.run(config, tmp_path / "cv")
    (tmp_path / "cv" / "folds.csv").unlink()
    with pytest.raises(InputError, match="a network of other training sections"):
        spot_cv.run(config, tmp_path / "cv")
