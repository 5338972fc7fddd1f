"""Tests of the settings of encoding."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.experiments.encode.config import EncodeSettings


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices_that_torch_knows(device: str) -> None:
    assert EncodeSettings(device=device).device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:one", ""])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(
        InputError, match=r"'device' is .*Fix: give one of the values of its description: .*cuda"
    ):
        EncodeSettings(device=device)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--device", "cpu", "--devices", "cpu:1"), "both say where to encode"),
        (("--device", "cpu", "--engine", "ray"), "Ray chooses the GPUs"),
        (("--shard", "3/2"), "--shard 3/2"),
        (("--address", "head:1"), "without --engine ray"),
        (("--engine", "dask"), "choose local or ray"),
    ],
)
def test_options_that_contradict_one_another_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    said: str,
) -> None:
    (tmp_path / "a.svs").touch()
    command = ["tcgn-mil", "encode", str(tmp_path), "--out", str(tmp_path / "out"), *options]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "out").exists()
