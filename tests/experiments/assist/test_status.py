"""``tcgn-mil status``: what is done, what is left, and when it will be."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.assist.status import folder_status
from tcgn_mil.experiments.command_line.log_files import RUN_LOG
from tcgn_mil.io.failures import Failure, write_failures


def write_log(folder: Path, *lines: dict, ago_s: float = 100.0, process: int = 1) -> None:
    stamp = datetime.fromtimestamp(time.time() - ago_s, timezone.utc).isoformat(timespec="seconds")
    with (folder / RUN_LOG).open("a") as file:
        for line in lines:
            file.write(json.dumps({"time": stamp, "process": process, **line}) + "\n")


def start(verb: str, *arguments: str) -> dict:
    return {"event": "start", "verb": verb, "arguments": [verb, *arguments]}


def progress(verb: str, total: int, *, done: int = 0, failed: int = 0) -> dict:
    return {"event": "progress", "work": verb, "done": done, "total": total, "failed": failed}


def make_files(folder: Path, count: int, *, first_ago_s: float, every_s: float) -> None:
    for number in range(count):
        path = folder / f"S{number}.h5"
        path.touch()
        written = time.time() - first_ago_s + number * every_s
        os.utime(path, (written, written))


def test_a_run_at_work(tmp_path: Path) -> None:
    write_log(tmp_path, start("encode"), progress("encode", 60, done=2, failed=2))
    make_files(tmp_path, 10, first_ago_s=90, every_s=10)  # the last one was written now
    (status,) = folder_status(tmp_path)
    assert (status.verb, status.state) == ("encode", "running")
    assert (status.done, status.failed, status.left) == (10, 2, 48)
    assert status.per_second == pytest.approx(0.1, rel=0.05)
    assert status.to_go_s == pytest.approx(480, rel=0.05)
    assert "10 slides done, 2 failed (failures.csv), 48 left, " in str(status)
    assert "slides a minute, 8 min to go" in str(status)


def test_shares_add_up_once_all_of_them_have_begun(tmp_path: Path) -> None:
    make_files(tmp_path, 3, first_ago_s=50, every_s=10)
    write_log(tmp_path, start("tile", "--shard", "1/2"), progress("tile", 8), process=1)
    assert folder_status(tmp_path)[0].left is None
    write_log(tmp_path, start("tile", "--shard=2/2"), progress("tile", 5), process=2)
    assert folder_status(tmp_path)[0].left == 10


def test_a_killed_run_and_one_that_ended_with_failures(tmp_path: Path) -> None:
    killed, ended = tmp_path / "killed", tmp_path / "ended"
    for folder in (killed, ended):
        folder.mkdir()
        write_log(folder, start("encode"), progress("encode", 3), ago_s=5000)
        make_files(folder, 2, first_ago_s=4900, every_s=10)
    write_failures(ended, [Failure("S9", "encode", "broken")])
    end = {"event": "end", "exit_code": 1, "seconds": 9, "error": None}
    write_log(ended, progress("encode", 3, done=3, failed=1), end)
    first, second = folder_status(killed)[0], folder_status(ended)[0]
    assert (first.state, first.left, first.to_go_s) == ("stopped", 1, None)
    assert (second.state, second.left, second.failed) == ("finished", 0, 1)


def test_a_run_that_counts_only_what_is_to_do(tmp_path: Path) -> None:
    make_files(tmp_path, 50, first_ago_s=9000, every_s=1)  # of an earlier run
    write_log(tmp_path, start("encode"), progress("encode", 10))
    late = tmp_path / "late"
    late.mkdir()
    make_files(late, 4, first_ago_s=40, every_s=10)
    for path in late.iterdir():
        path.rename(tmp_path / f"late-{path.name}")
    (status,) = folder_status(tmp_path)
    assert (status.done, status.left) == (54, 6)
    assert status.per_second == pytest.approx(0.04, rel=0.3)


def test_folds_of_a_slide_model(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"kind": "finetune"}')
    pd.DataFrame({"fold": [0, 1, 2], "part": "test", "id": ["a", "b", "c"]}).to_csv(
        tmp_path / "folds.csv", index=False
    )
    (tmp_path / "fold0.safetensors").touch()
    (status,) = folder_status(tmp_path)
    assert (status.unit, status.done, status.left, status.state) == ("fold", 1, 2, "unknown")
    (tmp_path / "summary.json").write_text("{}")
    assert folder_status(tmp_path)[0].state == "finished"


def test_tiles_and_features_of_slides_that_are_being_predicted(tmp_path: Path) -> None:
    write_log(tmp_path, start("predict"), progress("tile", 4), progress("encode", 4))
    for name, count in (("tiles", 4), ("features", 1)):
        (tmp_path / "work" / name).mkdir(parents=True)
        make_files(tmp_path / "work" / name, count, first_ago_s=50, every_s=5)
    tiles, features, predicted = folder_status(tmp_path)
    assert (tiles.verb, tiles.left, features.verb, features.left) == ("tile", 0, "encode", 3)
    assert (predicted.verb, predicted.done) == ("predict", 0)


def test_a_folder_of_files_without_a_log_and_no_folder(tmp_path: Path) -> None:
    make_files(tmp_path, 2, first_ago_s=20, every_s=10)
    (status,) = folder_status(tmp_path)
    assert (status.done, status.left, status.state) == (2, None, "unknown")
    with pytest.raises(InputError, match="no such folder"):
        folder_status(tmp_path / "no")
