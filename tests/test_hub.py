"""Downloads from and uploads to a hub on loopback, and the errors that a user sees."""

from __future__ import annotations

import time
from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import FakeHub

from tcgn_mil import hub
from tcgn_mil.errors import InputError

NAME = "owner/encoder"
PATTERNS = ["*.json", "*.safetensors"]
WEIGHTS = bytes(range(256)) * 40
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "evil.pkl": b"pickle"}


def fetched(name: str = NAME, *, note: str = "") -> dict[str, bytes]:
    folder = hub.download(name, PATTERNS, note=note)
    return {path.name: path.read_bytes() for path in folder.path.iterdir()}


def refused(name: str = NAME, *, note: str = "") -> InputError:
    with pytest.raises(InputError) as raised:
        hub.download(name, PATTERNS, note=note)
    assert raised.value.fix
    assert raised.value.path is not None
    return raised.value


def test_a_download_has_the_files_that_were_asked_for_and_their_commit(fake_hub: FakeHub) -> None:
    commit = fake_hub.add(NAME, FILES)
    folder = hub.download(f"hf-hub:{NAME}", PATTERNS)
    assert (folder.repo, folder.revision) == (NAME, commit)
    assert fetched() == {name: FILES[name] for name in ("config.json", "model.safetensors")}
    assert fake_hub.downloads("evil.pkl") == 0
    assert fake_hub.downloads("model.safetensors") == 1  # the second one is of the cache


def test_a_revision_is_a_branch_or_a_commit(fake_hub: FakeHub) -> None:
    first = fake_hub.add(NAME, FILES)
    fake_hub.add(NAME, {**FILES, "config.json": b"[1]"}, revision="v2")
    fake_hub.add(NAME, {**FILES, "config.json": b"[2]"})
    assert fetched(f"{NAME}@v2")["config.json"] == b"[1]"
    assert fetched()["config.json"] == b"[2]"
    assert fetched(f"{NAME}@{first}")["config.json"] == b"{}"
    assert "has no revision 'v3'" in refused(f"{NAME}@v3").reason


def test_without_an_account_a_missing_and_a_private_repository_look_alike(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add(NAME, FILES)
    fake_hub.repos[NAME].private = True
    error = refused(note="CC-BY-NC-ND-4.0")
    assert "is private (CC-BY-NC-ND-4.0)" in error.reason
    assert hub.LOGIN in (error.fix or "")
    assert error.path == f"{fake_hub.url}/{NAME}"
    assert "there is no repository owner/other" in refused("owner/other").reason
    fake_hub.log_in(monkeypatch, "read")
    assert fetched()["config.json"] == b"{}"
    assert "there is no repository owner/other" in refused("owner/other").reason  # a 404


def test_a_token_that_is_not_valid_is_named(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub.add(NAME, FILES)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    error = refused()
    assert "HTTP 401" in error.reason
    assert hub.LOGIN in (error.fix or "")


@pytest.mark.parametrize("access", ["read", None])
def test_a_gated_repository_names_the_page_where_access_is_asked_for(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, access: str | None
) -> None:
    fake_hub.add(NAME, FILES)
    fake_hub.repos[NAME].gated = True
    if access:
        fake_hub.log_in(monkeypatch, access)
    error = refused(note="licence CC-BY-NC-ND-4.0")
    assert "is gated (licence CC-BY-NC-ND-4.0)" in error.reason
    assert error.path == f"{fake_hub.url}/{NAME}"
    assert "ask for access on this page" in (error.fix or "")


@pytest.mark.parametrize("status", [403, 503])
def test_a_status_without_a_code_is_told(fake_hub: FakeHub, status: int) -> None:
    fake_hub.add(NAME, FILES)
    fake_hub.repos[NAME].refuse = status
    assert f"HTTP {status}" in refused().reason


def test_a_file_continues_where_the_connection_was_cut(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    fake_hub.add(NAME, FILES)
    fake_hub.cuts["model.safetensors"] = [1000, 5000]
    assert fetched()["model.safetensors"] == WEIGHTS
    assert fake_hub.downloads("model.safetensors") == 3


def test_a_connection_that_stays_cut_is_told_and_the_next_run_keeps_whole_files(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    fake_hub.add(NAME, FILES)
    fake_hub.cuts["model.safetensors"] = [100, *[0] * 9]
    assert "the connection was cut" in refused().reason
    fake_hub.cuts.clear()
    assert fetched()["model.safetensors"] == WEIGHTS
    assert fake_hub.downloads("config.json") == 1


def test_offline_reads_the_cache_alone(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub.add(NAME, FILES)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "is not in the cache, and the offline mode is set" in refused().reason
    assert fake_hub.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    fetched()
    asked = len(fake_hub.requests)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetched()["model.safetensors"] == WEIGHTS
    assert len(fake_hub.requests) == asked


def test_a_hub_that_cannot_be_reached_is_told_unless_the_cache_has_the_files(
    fake_hub: FakeHub,
) -> None:
    fake_hub.add(NAME, FILES)
    fetched()
    fake_hub.stop()
    assert fetched()["model.safetensors"] == WEIGHTS
    error = refused("owner/other")
    assert "cannot be reached" in error.reason
    assert "local-dir:<folder>" in (error.fix or "")


def test_a_repository_without_such_files_is_told(fake_hub: FakeHub) -> None:
    fake_hub.add(NAME, {"evil.pkl": b"pickle"})
    assert "has no file *.json or *.safetensors" in refused().reason


@pytest.mark.parametrize("name", ["encoder", "owner/../secret", "owner/", "a/b/c", "a/b@"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is no name of a repository"):
        hub.parse_hub_name(name)


def write(folder: Path) -> Path:
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Encoder\n")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


@pytest.mark.parametrize("private", [True, False])
def test_an_upload_makes_a_repository_with_the_files(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, private: bool
) -> None:
    fake_hub.log_in(monkeypatch, "write")
    commit = hub.upload(write(tmp_path / "made"), NAME, private=private, message="First")
    repo = fake_hub.repos[NAME]
    assert repo.private is private
    assert repo.files(commit)["model.safetensors"] == WEIGHTS
    assert set(repo.files()) == {"README.md", "model.safetensors"}
    assert repo.messages[-1] == "First"
    assert fetched()["model.safetensors"] == WEIGHTS


def test_weights_are_uploaded_by_git_lfs_where_the_hub_asks_for_it(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    fake_hub.log_in(monkeypatch, "write")
    fake_hub.lfs = (".safetensors",)
    commit = hub.upload(write(tmp_path / "made"), NAME)
    assert list(fake_hub.stored.values()) == [WEIGHTS]
    assert fake_hub.repos[NAME].files(commit)["model.safetensors"] == WEIGHTS


def test_a_second_upload_removes_files_that_are_gone_and_a_branch_is_made(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_hub.log_in(monkeypatch, "write")
    fake_hub.add(NAME, {"old.safetensors": b"old", "notes.txt": b"kept", "README.md": b"# Old\n"})
    hub.upload(write(tmp_path / "made"), f"{NAME}@v2", replace=["*.safetensors"])
    repo = fake_hub.repos[NAME]
    assert set(repo.files("v2")) == {"README.md", "model.safetensors", "notes.txt"}
    assert set(repo.files()) == {"README.md", "old.safetensors", "notes.txt"}


@pytest.mark.parametrize("access", ["read", None])
def test_an_account_that_may_not_write_is_told(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, access: str | None
) -> None:
    if access:
        fake_hub.log_in(monkeypatch, access)
    with pytest.raises(InputError) as raised:
        hub.upload(write(tmp_path / "made"), NAME)
    assert hub.LOGIN in (raised.value.fix or "")
    assert NAME not in fake_hub.repos


def test_nothing_is_uploaded_offline(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="cannot be uploaded in the offline mode"):
        hub.upload(write(tmp_path / "made"), NAME)
    fake_hub.stop()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    with pytest.raises(InputError, match="cannot be uploaded: the hub cannot be reached"):
        hub.upload(tmp_path / "made", NAME)
