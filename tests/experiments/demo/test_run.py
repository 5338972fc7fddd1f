"""Tests of the whole chain on the synthetic cohort: files, resuming, and traceable numbers."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import anndata
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from tcgn_mil.batches.bag_files import read_bag
from tcgn_mil.checkpoints import load_slide_model, read_encoder_info, save_slide_model
from tcgn_mil.config import resolve_config
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.demo.planted_truth import by_kind_and_followers
from tcgn_mil.experiments.demo.run import run_demo
from tcgn_mil.experiments.demo.steps import Steps, set_options
from tcgn_mil.experiments.spot_level.config import SpotConfig, TargetConfig
from tcgn_mil.experiments.verbs import verbs
from tcgn_mil.inference.slides import predict_bag
from tcgn_mil.io.feature_files import find_features, read_feature_info
from tcgn_mil.io.tile_files import read_tile_settings, read_tiles
from tcgn_mil.settings.training import TrainingConfig


@pytest.fixture(scope="module")
def predicted(demo: Path) -> anndata.AnnData:
    return anndata.read_h5ad(demo / "predictions" / "predicted.h5ad")


def test_report_is_self_contained_and_labelled_synthetic(demo: Path) -> None:
    text = (demo / "report.html").read_text(encoding="utf-8")
    assert "SYNTHETIC DATA" in text
    assert text.count(";base64,") >= 8
    assert not re.findall(r"""src=["'](?!data:)""", text)  # no file or site is needed
    links = [unquote(link) for link in re.findall(r'href="([^"#]+)"', text)]
    assert len(links) > 20
    assert all((demo / link).exists() for link in links)


def test_every_verb_is_run_and_told_by_the_page(demo: Path) -> None:
    steps = pd.read_csv(demo / "steps.csv", keep_default_na=False)
    run = [command.split()[1] for command in steps["command"] if command.startswith("tcgn-mil")]
    # The demo needs no network and no extra, and its cohort is made, not downloaded.
    local = {verb.name for verb in verbs()} - {"download", "encoders", "export-spatialdata"}
    local -= {"status", "doctor", "config"}  # they make nothing
    assert sorted(run) == sorted(local)
    stages = (demo / "report.html").read_text(encoding="utf-8").split('<section id="stages">')[1]
    told = re.findall(r"<tr><td><code>([a-z-]+)", stages.split("</section>")[0])
    # Ten patients are too few for survival analysis, which therefore leaves no run.
    assert sorted(told) == sorted(local - {"survive"} | {"demo"})  # each once
    refused = steps[steps["refused"] != ""]
    assert refused["command"].str.split().str[1].tolist() == ["survive"]
    assert "fewer than 10" in refused["refused"].item()


def test_the_page_opens_with_the_planted_truth(demo: Path) -> None:
    text = (demo / "report.html").read_text(encoding="utf-8")
    opening = text.split('<section class="opening">')[1].split("</section>")[0]
    assert opening.count("<p>") == 3
    assert opening.count("<img") == 1
    kinds = by_kind_and_followers(demo / "slide-model", demo / "cohort" / "truth")
    r = kinds.set_index("kind").loc["followers"].filter(like="r_model").item()
    assert f"median correlation of {r:.2f}" in opening


def test_a_step_keeps_the_longest_time_of_all_runs(tmp_path: Path) -> None:
    Steps(tmp_path / "steps.csv").do("wait", lambda: time.sleep(0.3))
    again = Steps(tmp_path / "steps.csv")
    again.do("wait", lambda: None)
    assert again.seconds["wait"] >= 0.3


def test_every_patient_is_predicted_by_the_model_that_did_not_see_it(
    demo: Path, predicted: anndata.AnnData
) -> None:
    folds = pd.read_csv(demo / "slide-model" / "folds.csv")
    assert sorted(predicted.obs_names) == sorted(folds.loc[folds["part"] == "test", "id"])
    assert set(predicted.obs["relation"]) == {"out of fold"}
    assert np.isnan(
        predicted.layers["sd"]
    ).all()  # one model for each patient, so there is no spread
    out_of_fold = anndata.read_h5ad(demo / "slide-model" / "out_of_fold.h5ad")
    np.testing.assert_allclose(
        predicted.X,
        np.maximum(out_of_fold[predicted.obs_names, predicted.var_names].X, 0),
        atol=1e-4,
    )


def test_predictions_carry_their_unit_and_origin(demo: Path, predicted: anndata.AnnData) -> None:
    made = json.loads(predicted.uns["tcgn_mil"])
    assert made["unit"] == "log2(TPM + 1)"
    assert made["tcgn_mil"]
    assert np.nanmin(predicted.X) >= 0
    table = pd.read_csv(demo / "predictions" / "predicted.csv", index_col=0)
    np.testing.assert_allclose(
        table.loc[predicted.obs_names, predicted.var_names], predicted.X, rtol=1e-4
    )


def test_attention_weighted_tiles_are_the_slide(demo: Path) -> None:
    model, info = load_slide_model(demo / "slide-model" / "fold0.safetensors")
    features = find_features(demo / "features")
    bag = read_bag([next(iter(features.values()))])
    genes = list(range(len(info.panel)))
    found = predict_bag(model, bag, tile_genes=genes)
    np.testing.assert_allclose(found.attention @ found.tile_expression, found.expression, atol=1e-5)
    assert found.attention.sum() == pytest.approx(1, abs=1e-5)


def test_patients_and_tiles_keep_their_identity(demo: Path) -> None:
    encoder = read_encoder_info(demo / "encoder" / "encoder.safetensors")
    for slide, path in find_features(demo / "features").items():
        tiles, info = read_tiles(demo / "tiles" / f"{slide}.h5"), read_feature_info(path)
        assert (info.slide_id, info.patient_id, info.n_tiles) == (slide, slide[:12], len(tiles))
        assert info.patch.matches(encoder.patch)
        assert info.encoder.startswith("tcgn_tiny-")


def test_test_section_is_of_a_patient_in_no_other_part(demo: Path) -> None:
    folds = pd.read_csv(demo / "encoder" / "folds.csv")
    test = set(folds.loc[folds["part"] == "test", "id"].str[0])
    assert test
    assert not test & set(folds.loc[folds["part"] != "test", "id"].str[0])


def test_results_name_normalisation_and_stand_beside_baselines(demo: Path) -> None:
    spots = pd.read_csv(demo / "encoder" / "results.csv")
    assert set(spots["predictor"]) == {
        "model",
        "ridge_colour",
        "depth_control",
        "log_total",
        "training_mean",
    }
    assert set(spots["normalisation"]) == {"library"}
    slides = pd.read_csv(demo / "slide-model" / "headline.csv")
    baselines = {
        "training_mean",
        "ridge_mean_features",
        "kernel_mean_features",
        "ridge_colour",
        "zero_shot",
        "untrained",
    }
    assert set(slides["predictor"]) == {"model", *baselines}


def test_a_second_run_does_nothing_again(demo: Path) -> None:
    files = [
        path
        for path in demo.rglob("*")
        if path.suffix in (".h5", ".h5ad", ".safetensors", ".tiff")
        # predict and import-features take seconds, and start from the beginning each time
        and not {"predictions", "area-features"} & set(path.parts)
        and path.name != "cohort.h5ad"
    ]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert len(before) > 30
    run_demo(demo, preset_name="test")
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_nothing_temporary_is_left(demo: Path) -> None:
    assert not [path for path in demo.rglob("*") if ".tmp" in path.name]


def test_weights_of_the_state_and_the_model_agree(demo: Path) -> None:
    """The model saved is the best epoch of the state, not the last."""
    model = load_file(demo / "slide-model" / "fold0.safetensors")
    state = load_file(demo / "slide-model" / "state" / "fold0.safetensors")
    for name, value in model.items():
        np.testing.assert_array_equal(value, state[f"best.{name}"])


def test_slides_are_tiled_and_encoded_by_predict_itself(
    demo: Path, predicted: anndata.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the stages one by one give; a file that is not a slide costs a row."""
    single = predicted.obs_names[predicted.obs["n_slides"] == 1][0]
    slide = next((demo / "cohort" / "slides").glob(f"{single}*.tiff"))
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / slide.name).symlink_to(slide)
    (tmp_path / "slides" / "TCGA-ZZ-0001-01Z-00-DX1.tiff").write_bytes(b"II*\x00broken")
    encoder = demo / "encoder" / "encoder.safetensors"
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "tcgn-mil",
            "predict",
            "--model",
            str(demo / "slide-model"),
            "--slides",
            str(tmp_path / "slides"),
            "--encoder",
            str(encoder),
            "--out",
            str(tmp_path / "out"),
        ],
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1  # one slide failed
    found = anndata.read_h5ad(tmp_path / "out" / "predicted.h5ad")
    assert list(found.obs_names) == [slide.name[:12]]
    assert found.obs["n_slides"].tolist() == [1]
    one_slide = read_bag([demo / "features" / f"{slide.stem}.h5"])
    assert found.obs["n_tiles"].tolist() == [len(one_slide.features)]
    np.testing.assert_allclose(found.X, predicted[found.obs_names, found.var_names].X, atol=1e-3)
    failures = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert failures["slide"].tolist() == ["TCGA-ZZ-0001-01Z-00-DX1"]
    assert not (tmp_path / "out" / "work").exists()
    assert (tmp_path / "out" / "maps" / f"{slide.stem}.png").is_file()


def test_predict_tiles_as_the_training_slides_were(
    demo: Path, predicted: anndata.AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tile step and rules come from the model.

    Another tile size is refused unless it is allowed, and is then labelled.
    """
    model, encoder = tmp_path / "slide-model", demo / "encoder" / "encoder.safetensors"
    shutil.copytree(demo / "slide-model", model)
    paths = sorted(model.glob("fold*.safetensors"))
    tile_file = next((demo / "tiles").glob("*.h5"))
    assert load_slide_model(paths[0])[1].tiling == {
        "stride_px": 112,
        **read_tile_settings(tile_file)[1],
    }
    single = predicted.obs_names[predicted.obs["n_slides"] == 1][0]
    slide = next((demo / "cohort" / "slides").glob(f"{single}*.tiff"))

    def run(out: str, *options: str) -> anndata.AnnData:
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "tcgn-mil",
                "predict",
                "--model",
                str(model),
                "--slides",
                str(slide),
                "--encoder",
                str(encoder),
                "--no-maps",
                "--out",
                str(tmp_path / out),
                *options,
            ],
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        if ended.value.code:
            raise ended.value
        return anndata.read_h5ad(tmp_path / out / "predicted.h5ad")

    for path in paths:
        network, info = load_slide_model(path)
        rules = {**info.tiling, "stride_px": 56, "min_tissue": 0.05}
        save_slide_model(path, network, dataclasses.replace(info, tiling=rules))
    dense = run("dense", "--keep-features").obs["n_tiles"].item()
    assert dense > 3 * predicted.obs.loc[single, "n_tiles"]
    kept = next((tmp_path / "dense" / "work" / "tiles").glob("*.h5"))
    spec, settings = read_tile_settings(kept)
    assert (spec.stride_px, settings["min_tissue"]) == (56, 0.05)
    with pytest.raises(SystemExit) as ended:
        run("other", "--patch-px", "200")
    assert ended.value.code == 2
    assert not (tmp_path / "other").exists()
    run("allowed", "--patch-px", "200", "--allow-other-size")
    notes = json.loads((tmp_path / "allowed" / "summary.json").read_text(encoding="utf-8"))["notes"]
    assert notes == [f"tiles of another size than the model's {info.patch}: {slide.stem}"]
    for path in paths:
        network, info = load_slide_model(path)
        save_slide_model(path, network, dataclasses.replace(info, tiling={}))
    assert run("unknown").obs["n_tiles"].item() == predicted.obs.loc[single, "n_tiles"]
    notes = json.loads((tmp_path / "unknown" / "summary.json").read_text(encoding="utf-8"))["notes"]
    assert "the model does not record stride_px, min_tissue" in notes[0]


@pytest.mark.parametrize("folder", ["out", "my data, 'new'", "true"])
def test_the_options_that_the_page_shows_make_the_config_again(folder: str) -> None:
    config = SpotConfig(
        spots=folder,
        test_sections=("A1", "A2"),
        target=TargetConfig(rank=7),
        training=TrainingConfig(lr=2e-3, loss="correlation", seed=3),
    )
    words = shlex.split(set_options(config, SpotConfig()))
    assert words[::2] == ["--set"] * (len(words) // 2)
    assert resolve_config(SpotConfig, overrides=words[1::2]) == config
