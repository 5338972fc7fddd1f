"""A second run is kept out of a folder, and a dead one keeps nobody out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.resume import folder_lock as module
from tcgn_mil.resume.folder_lock import PREFIX, STALE_S, folder_lock

HOLD = (
    "import sys, time\n"
    "from tcgn_mil.resume.folder_lock import folder_lock\n"
    "with folder_lock(sys.argv[1]):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(60)\n"
)


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_first_process_is_named_and_a_killed_one_blocks_nobody(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with (
            pytest.raises(InputError, match=rf"in use by process {process.pid} on .*--out"),
            folder_lock(tmp_path),
        ):
            pass
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / PREFIX).is_file()  # the crash left it behind
    with folder_lock(tmp_path):
        assert json.loads((tmp_path / PREFIX).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_lock_of_another_machine_counts_while_it_is_renewed(tmp_path: Path) -> None:
    path = tmp_path / PREFIX
    path.write_text(json.dumps({"process": 1, "host": "node7", "machine": "other", "token": "t"}))
    with pytest.raises(InputError, match="process 1 on node7"), folder_lock(tmp_path):
        pass
    old = time.time() - STALE_S - 5
    os.utime(path, (old, old))
    with folder_lock(tmp_path):
        pass
    assert not path.exists()


def test_another_process_under_the_same_number_holds_no_lock(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        held = json.loads((tmp_path / PREFIX).read_text())
    (tmp_path / PREFIX).write_text(json.dumps(held | {"started": "1"}))
    with folder_lock(tmp_path):
        pass


def test_a_lock_that_is_cut_off_is_not_trusted_for_ever(tmp_path: Path) -> None:
    path = tmp_path / PREFIX
    path.write_text('{"proc')
    with pytest.raises(InputError, match="in use by process unknown"), folder_lock(tmp_path):
        pass
    os.utime(path, (1, 1))
    with folder_lock(tmp_path):
        pass


def test_shards_share_a_folder_but_not_with_a_run_over_everything(tmp_path: Path) -> None:
    with (
        folder_lock(tmp_path, name="shard-1-of-2", shard=True),
        folder_lock(tmp_path, name="shard-2-of-2", shard=True),
    ):
        with (
            pytest.raises(InputError, match="in use"),
            folder_lock(tmp_path, name="shard-1-of-2", shard=True),
        ):
            pass
        with pytest.raises(InputError, match="in use"), folder_lock(tmp_path):
            pass
    with (
        folder_lock(tmp_path),
        pytest.raises(InputError, match="in use"),
        folder_lock(tmp_path, name="shard-1-of-2", shard=True),
    ):
        pass


def test_an_empty_folder_that_was_made_is_removed(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()
    with folder_lock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").touch()
    assert (tmp_path / "a" / "b" / "result").is_file()


def test_a_living_run_renews_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWED_S", 0.02)
    with folder_lock(tmp_path):
        os.utime(tmp_path / PREFIX, (1, 1))
        deadline = time.monotonic() + 5
        while (tmp_path / PREFIX).stat().st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / PREFIX).stat().st_mtime > 2
