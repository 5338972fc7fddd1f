"""``tcgn-mil doctor`` and ``tcgn-mil config``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tcgn_mil.config import as_plain, resolve_config
from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.assist import doctor
from tcgn_mil.experiments.assist.config_file import CONFIG_OF_VERB, config_text
from tcgn_mil.experiments.assist.doctor import BAD, NOTE, OK, examine, verdict_of


@pytest.fixture(autouse=True)
def without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing answers there


def test_a_machine_without_network_is_ready_with_limits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free = SimpleNamespace(total=10**12, used=0, free=10**12)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: free)
    found = {finding.check: finding for finding in examine(tmp_path)}
    assert found["model hub"].verdict == NOTE
    assert "local-dir:" in found["model hub"].fix
    assert found["self-test"].verdict == found["disk"].verdict == OK
    assert "model hub" in verdict_of(list(found.values()))


def test_a_machine_without_openslide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def cannot(name: str):
        raise OSError(f"{name}: no library")

    monkeypatch.setattr(importlib, "import_module", cannot)
    found = {finding.check: finding for finding in examine(tmp_path, self_test=False)}
    assert found["OpenSlide"].verdict == NOTE
    assert "openslide-bin" in found["OpenSlide"].fix


def test_a_disk_that_cannot_be_written_and_a_check_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor.shutil, "disk_usage", full)
    monkeypatch.setattr(doctor, "_gpu", lambda: 1 / 0)
    command = ["tcgn-mil", "doctor", "--folder", str(tmp_path), "--no-self-test", "--json"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = json.loads(capsys.readouterr().out)
    assert ended.value.code == shown["exit_code"] == 1
    assert shown["result"]["verdict"] == "Not ready: mend GPU, disk."
    verdicts = {each["check"]: each["verdict"] for each in shown["result"]["checks"]}
    assert verdicts["disk"] == verdicts["GPU"] == BAD


@pytest.mark.parametrize("verb", CONFIG_OF_VERB)
def test_a_printed_config_is_read_back_as_the_defaults(verb: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(config_text(verb), encoding="utf-8")
    made = resolve_config(CONFIG_OF_VERB[verb], yaml_path=path)
    assert as_plain(made) == as_plain(CONFIG_OF_VERB[verb]())


def test_a_verb_without_a_config_file() -> None:
    with pytest.raises(InputError, match="tile takes no config file"):
        config_text("tile")
