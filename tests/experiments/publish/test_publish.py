"""A published model predicts the same from the hub as from the folder of its run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from fake_hub import FakeHub
from small_runs import NEW

import tcgn_mil
from tcgn_mil.checkpoints import load_encoder, weights_digest
from tcgn_mil.checkpoints.file_format import copy_with_header, header_text
from tcgn_mil.checkpoints.published import DIGESTS, write_digests
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.run import run as predict
from tcgn_mil.experiments.publish.config import PublishConfig
from tcgn_mil.experiments.publish.run import publish
from tcgn_mil.experiments.report.run import write_run_report
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.io.gene_list import read_model_genes

NAME = "owner/slide-model"
HUB = f"hf-hub:{NAME}"


def predicted(model: str | Path, features: str, out: Path) -> anndata.AnnData:
    predict(PredictConfig(model=str(model), features=features, maps=False), out)
    return anndata.read_h5ad(out / "predicted.h5ad")


def assert_same(found: anndata.AnnData, expected: anndata.AnnData) -> None:
    np.testing.assert_array_equal(found.X, expected.X)
    for layer in ("sd", "low", "high"):
        np.testing.assert_array_equal(found.layers[layer], expected.layers[layer])
    pd.testing.assert_frame_equal(found.obs, expected.obs)
    pd.testing.assert_frame_equal(found.var, expected.var)


@pytest.fixture
def published(slide_run: Path, tmp_path: Path) -> Path:
    return publish(PublishConfig(run=str(slide_run)), tmp_path / "published").folder


def test_a_model_from_the_hub_predicts_what_the_run_does(
    cohort: FinetuneConfig,
    slide_run: Path,
    fake_hub: FakeHub,
    call: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fake_hub.log_in(monkeypatch, "write")
    answer = call("publish", slide_run, "--to", NAME, "--out", tmp_path / "made", "--public")
    assert answer.code == 0, answer.err
    assert f"Uploaded to {fake_hub.url}/{NAME}" in answer.out
    assert "--data-licence was not given" in answer.err
    repo = fake_hub.repos[NAME]
    assert not repo.private
    monkeypatch.delenv("HF_TOKEN")
    out = tmp_path / "predictions"
    answer = call(
        "predict", "--model", HUB, "--features", cohort.features, "--no-maps", "--out", out
    )
    assert answer.code == 0, answer.err
    expected = predicted(slide_run, cohort.features, tmp_path / "expected")
    assert_same(anndata.read_h5ad(out / "predicted.h5ad"), expected)
    assert set(expected.obs["relation"]) == {"out of fold", "new"}
    assert set(expected.obs_names[expected.obs["relation"] == "new"]) == set(NEW)
    revision = repo.branches["main"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["model"] == {"repository": NAME, "revision": revision}
    page = write_run_report([out], tmp_path / "report.html", title="t").read_text("utf-8")
    assert f"{NAME} on the hub (revision {revision})" in page
    assert f"predicted by {NAME}, revision {revision[:10]}" in page
    assert f"tcgn-mil predict --model {HUB}@{revision} --features" in page


def test_only_safetensors_json_and_a_card_travel(published: Path) -> None:
    assert {path.suffix for path in published.iterdir()} == {".safetensors", ".json", ".md"}
    listed = json.loads((published / DIGESTS).read_text())
    assert listed["kind"] == "slide-model"
    names = {path.name for path in published.iterdir()}
    assert {*listed["files"], DIGESTS, "README.md"} == names


@pytest.mark.parametrize("names", ["hashed", "removed"])
@pytest.mark.parametrize("which", ["slide_run", "kernel_run", "encoder_run"])
def test_no_path_and_no_name_of_a_patient_travels(
    which: str, names: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run = request.getfixturevalue(which)
    folder = publish(PublishConfig(run=str(run), names=names), tmp_path / "published").folder
    # Paths of this machine, and the names of patients and of sections in the two kinds of run.
    private = re.compile(rf"{re.escape(str(run.parents[1]))}|/tmp|\bP[0-9]{{2}}\b|\b[A-D][12]\b")
    for path in folder.iterdir():
        text = header_text(path) if path.suffix == ".safetensors" else path.read_text("utf-8")
        assert private.findall(text or "") == [], path.name


@pytest.mark.parametrize("names", ["hashed", "kept"])
@pytest.mark.parametrize("which", ["slide_run", "kernel_run"])
def test_training_patients_are_recognised(
    which: str,
    names: str,
    request: pytest.FixtureRequest,
    cohort: FinetuneConfig,
    tmp_path: Path,
) -> None:
    run = request.getfixturevalue(which)
    folder = publish(PublishConfig(run=str(run), names=names), tmp_path / "published").folder
    found = predicted(folder, cohort.features, tmp_path / "found")
    assert_same(found, predicted(run, cohort.features, tmp_path / "expected"))


def test_without_names_patients_are_predicted_by_all_folds_and_it_is_said(
    cohort: FinetuneConfig, slide_run: Path, tmp_path: Path
) -> None:
    config = PublishConfig(run=str(slide_run), names="removed")
    folder = publish(config, tmp_path / "published").folder
    found = predicted(folder, cohort.features, tmp_path / "found")
    assert set(found.obs["relation"]) == {"not known"}
    assert set(found.obs["n_models"]) == {3}
    expected = predicted(slide_run, cohort.features, tmp_path / "expected")
    np.testing.assert_array_equal(found[list(NEW)].X, expected[list(NEW)].X)
    notes = json.loads((tmp_path / "found" / "summary.json").read_text())["notes"]
    assert "without the names of its training patients" in notes[0]


def test_the_same_name_has_another_hash_in_each_publication(
    slide_run: Path, tmp_path: Path
) -> None:
    hashes = []
    for name in ("first", "second"):
        folder = publish(PublishConfig(run=str(slide_run)), tmp_path / name).folder
        hashes.append(set(json.loads((folder / "patients.json").read_text())["slides"]))
    assert len(hashes[0]) == 25
    assert not hashes[0] & hashes[1]


def test_the_table_of_genes_is_the_same(slide_run: Path, published: Path) -> None:
    pd.testing.assert_frame_equal(read_model_genes(published), read_model_genes(slide_run))


def test_a_slide_model_in_a_notebook(
    cohort: FinetuneConfig,
    slide_run: Path,
    fake_hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    fake_hub.log_in(monkeypatch, "write")
    local = tcgn_mil.SlideModel.from_pretrained(slide_run)
    commit = local.push_to_hub(NAME, licence="mit")
    assert fake_hub.repos[NAME].private
    model = tcgn_mil.SlideModel.from_pretrained(f"{NAME}@{commit}")
    assert (model.folder.repo, model.folder.revision) == (NAME, commit)
    assert model.unit == "log2(TPM + 1)"
    assert model.genes.index.tolist() == list(model.panel.genes)
    expected = predicted(slide_run, cohort.features, tmp_path / "expected")
    found = model.predict(cohort.features)
    assert_same(found, expected)
    assert found.uns["failures"].empty
    assert json.loads(found.uns["tcgn_mil"])["model"]["revision"] == commit
    one = model.predict(Path(cohort.features) / "N0-1.h5")
    assert one.obs_names.tolist() == ["N0"]
    # What was fetched can be published elsewhere as it is, with its card.
    model.push_to_hub("other/copy")
    files, copy = fake_hub.repos[NAME].files(), fake_hub.repos["other/copy"].files()
    assert files == copy
    with pytest.raises(InputError, match="licence cannot be changed"):
        model.push_to_hub("other/copy", licence="mit")


def test_slides_that_fail_are_listed_and_warned_of(
    cohort: FinetuneConfig, slide_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "N9.h5").write_bytes(b"no HDF5")
    model = tcgn_mil.SlideModel.from_pretrained(slide_run)
    files = [tmp_path / "N9.h5", Path(cohort.features) / "N0-1.h5"]
    with pytest.warns(UserWarning, match="not predicted: N9"):
        found = model.predict(files)
    assert found.uns["failures"]["slide"].tolist() == ["N9"]
    with pytest.raises(InputError, match="no such feature file"):
        model.predict(tmp_path / "none.h5")


def test_an_encoder_in_a_notebook(
    encoder_run: Path, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.log_in(monkeypatch, "write")
    checkpoint = encoder_run / "encoder.safetensors"
    commit = tcgn_mil.Encoder.from_pretrained(encoder_run).push_to_hub("owner/encoder")
    encoder = tcgn_mil.Encoder.from_pretrained("owner/encoder")
    model, info = load_encoder(checkpoint)
    assert encoder.folder.revision == commit
    assert weights_digest(encoder.model) == weights_digest(model)
    assert encoder.info.panel == info.panel
    # Features keep their identity, so that those made before still fit.
    assert encoder.tile_encoder.identity == tcgn_mil.open_encoder(str(checkpoint)).identity
    from_file = tcgn_mil.Encoder.from_pretrained(checkpoint)
    assert from_file.tile_encoder.identity == encoder.tile_encoder.identity


def test_kinds_are_told_apart(
    encoder_run: Path,
    cohort: FinetuneConfig,
    fake_hub: FakeHub,
    call: Callable,
    published: Path,
    tmp_path: Path,
) -> None:
    made = publish(PublishConfig(run=str(encoder_run)), tmp_path / "encoder").folder
    fake_hub.add("owner/encoder", made)
    answer = call(
        "predict",
        "--model",
        "hf-hub:owner/encoder",
        "--features",
        cohort.features,
        "--out",
        tmp_path / "out",
    )
    assert answer.code == 2
    assert answer.err.count("error: ") == 1
    assert (
        "owner/encoder: holds a model of kind encoder, but one of kind slide-model is needed."
        in answer.err
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="of kind slide-model, but one of kind encoder is needed"):
        tcgn_mil.Encoder.from_pretrained(published)


def test_a_later_version_of_a_checkpoint_is_refused(published: Path) -> None:
    fold = published / "fold0.safetensors"
    copy_with_header(fold, fold, lambda header: {**header, "schema_version": 99})
    write_digests(published, kind="slide-model")
    with pytest.raises(InputError, match="later version of this package"):
        tcgn_mil.SlideModel.from_pretrained(published)


def test_a_publication_replaces_an_earlier_one_and_nothing_else(
    slide_run: Path, encoder_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "published"
    publish(PublishConfig(run=str(slide_run)), out)
    publish(PublishConfig(run=str(encoder_run)), out)
    assert not (out / "fold0.safetensors").exists()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files that no earlier command"):
        publish(PublishConfig(run=str(slide_run)), out)
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "encoder.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_runs_without_a_model_are_refused(
    slide_run: Path, cohort: FinetuneConfig, tmp_path: Path
) -> None:
    def message(run: Path) -> str:
        with pytest.raises(InputError) as raised:
            publish(PublishConfig(run=str(run)), tmp_path / "published")
        return str(raised.value)

    predicted(slide_run, cohort.features, tmp_path / "predictions")
    assert "holds a predict run, which has no model" in message(tmp_path / "predictions")
    told = "no such folder. Fix: give the folder that tcgn-mil pretrain, finetune or slide-cv wrote"
    assert told in message(tmp_path / "none")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(slide_run, unfinished)
    (unfinished / "summary.json").unlink()
    assert "has not finished" in message(unfinished)
    assert not (tmp_path / "published").exists()


def test_names_that_are_none_are_refused_before_anything_is_written(
    slide_run: Path, call: Callable, tmp_path: Path
) -> None:
    answer = call("publish", slide_run, "--to", "no-owner", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "'no-owner' is no name of a repository" in answer.err
    answer = call("publish", slide_run, "--names", "rot13", "--out", tmp_path / "out")
    assert answer.code == 2
    assert "names" in answer.err
    assert "rot13" in answer.err
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="is no folder here, and no name of a repository"):
        tcgn_mil.SlideModel.from_pretrained("slide model")
