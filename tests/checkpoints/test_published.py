"""A published model is opened only if every file is what was published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_hub import FakeHub
from safetensors.numpy import save_file

from tcgn_mil.checkpoints.file_format import ENCODER, SLIDE_MODEL
from tcgn_mil.checkpoints.published import (
    DIGESTS,
    file_digest,
    open_model,
    published_encoder,
    write_digests,
)
from tcgn_mil.errors import InputError

NAME, HUB = "owner/model", "hf-hub:owner/model"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    save_file({"weight": np.arange(1000, dtype=np.float32)}, folder / "fold0.safetensors")
    (folder / "run.json").write_text("{}")
    (folder / "README.md").write_text("# Model\n")
    write_digests(folder, kind=SLIDE_MODEL)
    return folder


def refused(source: str | Path, *, kind: str = SLIDE_MODEL) -> str:
    with pytest.raises(InputError) as raised:
        open_model(source, kind=kind)
    assert raised.value.fix
    return str(raised.value)


def change_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_folder_and_a_repository_are_opened(published: Path, fake_hub: FakeHub) -> None:
    commit = fake_hub.add(NAME, published)
    local = open_model(published, kind=SLIDE_MODEL)
    assert (local.path, local.kind, local.origin) == (published, SLIDE_MODEL, None)
    fetched = open_model(HUB, kind=SLIDE_MODEL)
    assert fetched.origin == {"repository": NAME, "revision": commit}
    assert str(fetched) == f"{HUB}@{commit}"
    for path in published.iterdir():
        assert (fetched.path / path.name).read_bytes() == path.read_bytes()


def test_the_folder_of_a_run_has_no_digests_and_is_left_to_its_readers(tmp_path: Path) -> None:
    assert open_model(tmp_path, kind=ENCODER).kind is None


def test_a_digest_is_that_of_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "abc") == digest


@pytest.mark.parametrize("name", ["fold0.safetensors", "run.json"])
def test_a_changed_byte_is_an_error_that_names_the_file(
    published: Path, fake_hub: FakeHub, name: str
) -> None:
    change_byte(published / name)
    assert f"the file {name} is not what was published" in refused(published)
    fake_hub.add(NAME, published)
    message = refused(HUB)
    assert message.startswith(f"{NAME}: the file {name}")
    assert "models--owner--model and run again" in message


def test_a_byte_that_changes_in_the_cache_is_found_and_the_remedy_works(
    published: Path, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add(NAME, published)
    path = open_model(HUB, kind=SLIDE_MODEL).path
    change_byte((path / "fold0.safetensors").resolve())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "fold0.safetensors is not what was published" in refused(HUB)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = refused(HUB).split("remove the folder ")[1].split(" and run again")[0]
    shutil.rmtree(folder)
    assert open_model(HUB, kind=SLIDE_MODEL).path == path


def test_the_card_may_be_edited(published: Path) -> None:
    (published / "README.md").write_text("# Better words\n")
    assert open_model(published, kind=SLIDE_MODEL).kind == SLIDE_MODEL


def test_a_pickle_is_neither_downloaded_nor_read(published: Path, fake_hub: FakeHub) -> None:
    (published / "model.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (published / "pytorch_model.bin").write_bytes(b"pickle")
    fake_hub.add(NAME, published)
    folder = open_model(HUB, kind=SLIDE_MODEL).path
    names = {path.name for path in folder.iterdir()}
    assert names == {"fold0.safetensors", "run.json", DIGESTS, "README.md"}
    assert fake_hub.downloads("model.pkl") == fake_hub.downloads("pytorch_model.bin") == 0


def test_a_repository_of_pickles_alone_is_refused(fake_hub: FakeHub) -> None:
    fake_hub.add(NAME, {"pytorch_model.bin": b"pickle"})
    assert "has no file *.safetensors or *.json" in refused(HUB)


def test_a_repository_of_another_library_is_refused(fake_hub: FakeHub) -> None:
    fake_hub.add(NAME, {"config.json": b"{}", "model.safetensors": b"0"})
    assert f"holds no model that tcgn-mil published ({DIGESTS} is missing)" in refused(HUB)


def test_a_file_that_is_missing_or_was_added_is_named(published: Path) -> None:
    shutil.copyfile(published / "fold0.safetensors", published / "fold1.safetensors")
    assert "has the file fold1.safetensors, which digests.json does not" in refused(published)
    (published / "fold1.safetensors").unlink()
    (published / "fold0.safetensors").unlink()
    assert "lacks the file fold0.safetensors" in refused(published)


def test_another_kind_is_refused(published: Path) -> None:
    message = refused(published, kind=ENCODER)
    assert "holds a model of kind slide-model, but one of kind encoder is needed" in message


def test_a_published_encoder_is_told_from_other_encoders(
    published: Path, fake_hub: FakeHub, tmp_path: Path
) -> None:
    (published / "encoder.safetensors").write_bytes(b"weights")
    write_digests(published, kind=ENCODER)
    fake_hub.add(NAME, published)
    fake_hub.add("owner/gated", {"config.json": b"{}", "model.safetensors": b"0"})
    fake_hub.repos["owner/gated"].gated = True
    local = published_encoder(published)
    assert local == published / "encoder.safetensors"
    fetched = published_encoder(HUB)
    assert fetched is not None
    assert fetched.read_bytes() == b"weights"
    for other in (tmp_path, "timm:resnet18", "hf-hub:owner/gated", "hf-hub:owner/none", "x.pth"):
        assert published_encoder(other) is None
    assert fake_hub.downloads("model.safetensors") == 0
    write_digests(published, kind=SLIDE_MODEL)
    with pytest.raises(InputError, match="of kind slide-model, but one of kind encoder"):
        published_encoder(published)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda listed: {**listed, "schema_version": 2}, "by a later version of this package"),
        (lambda listed: {**listed, "kind": "graph"}, "holds a model of kind graph"),
        (lambda listed: {"files": {}}, "its key 'schema_version' is wrong"),
        (lambda listed: [], "holds no JSON object"),
    ],
)
def test_digests_that_mean_something_else_are_refused(
    published: Path, change: Callable, expected: str
) -> None:
    listed = json.loads((published / DIGESTS).read_text())
    (published / DIGESTS).write_text(json.dumps(change(listed)))
    assert expected in refused(published)


def test_a_cut_download_goes_on_and_offline_has_what_was_fetched(
    published: Path, fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    fake_hub.add(NAME, published)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "is not in the cache, and the offline mode is set" in refused(HUB)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fake_hub.cuts["fold0.safetensors"] = [500]
    first = open_model(HUB, kind=SLIDE_MODEL)
    fake_hub.stop()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert open_model(HUB, kind=SLIDE_MODEL) == first
