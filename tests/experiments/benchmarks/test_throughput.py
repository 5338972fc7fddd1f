"""The throughput benchmarks measure what they say; no test checks a speed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from tcgn_mil.experiments.benchmarks import mil
from tcgn_mil.experiments.benchmarks.throughput import epochs, refits, two_encodes


@pytest.mark.parametrize("form", ["pooled", "additive"])
def test_the_forms_of_an_epoch_are_one_model(tmp_path: Path, form: str) -> None:
    tmp_path.joinpath("features").mkdir()
    paths = mil.make_features(tmp_path / "features", slides=3, tiles=40)
    measured = epochs.compare_epochs(paths, mil.WIDTH, 3, form=form, rounds=1)
    assert measured["values"] < 1e-6
    assert measured["gradients"] < 1e-5
    for name in ("read", "read, disk", "folded, disk", *epochs.FORMS):
        assert measured[name]["wall_s"] > 0
    assert measured["plain"]["times_plain_wall"] == 1
    assert measured["read"]["share_of_reading"] == 1


def test_an_epoch_trains(tmp_path: Path) -> None:
    tmp_path.joinpath("features").mkdir()
    paths = mil.make_features(tmp_path / "features", slides=3, tiles=40)
    measured = epochs.Epochs(paths, mil.WIDTH, 3, "pooled")
    for name in epochs.FORMS:
        before = measured.models[name].value[1].weight.detach().clone()
        measured.epoch(name)
        assert not np.array_equal(before.numpy(), measured.models[name].value[1].weight.detach())


def test_all_refits_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refits, "PATIENTS", 20)
    monkeypatch.setattr(refits, "_PARTS", {"train": (0, 12), "val": (12, 16), "test": (16, 20)})
    measured = refits.refits_of_a_fold(tmp_path, 2)
    assert measured["refits"] == 2
    assert measured["wall_s"] > 0


def test_commands_wait_for_one_another_only_if_asked(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = (
        "import os, sys, time; log = open(sys.argv[1], 'a', buffering=1);"
        " log.write('start ' + os.environ['OMP_WAIT_POLICY'] + '\\n'); time.sleep(1);"
        " log.write('end\\n')"
    )
    line = [sys.executable, "-c", script, str(log)]
    for together in (False, True):
        log.unlink(missing_ok=True)
        settings = two_encodes.SETTINGS["spinning"]
        assert two_encodes.seconds([line, line], settings, together=together) > 1
        events = [event.split()[0] for event in log.read_text().splitlines()]
        expected = ["start", "start", "end", "end"] if together else ["start", "end"] * 2
        assert events == expected
    assert "ACTIVE" in log.read_text()
