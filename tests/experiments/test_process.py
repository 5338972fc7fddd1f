"""The command as a process: Ctrl-C, and the threads that it takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line import process, session
from tcgn_mil.experiments.command_line.one_at_a_time import one_at_a_time
from tcgn_mil.experiments.main import main

RUN = "from tcgn_mil.experiments.main import main; main()"


def test_ctrl_c_ends_with_one_line_and_the_run_continues(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    command = [sys.executable, "-c", RUN, "demo", "--preset", "test", "--out", str(out)]
    started = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    for _ in range(600):
        if (out / "cohort").is_dir():
            break
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 130
    assert errors.strip().splitlines()[-1] == (
        "stopped by Ctrl-C. Run the same command again to continue."
    )
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("text", "bound", "expected"),
    [
        ("200000 100000", 8, 2),
        ("150000 100000", 8, 2),
        ("max 100000", 8, 8),
        ("800000 100000", 4, 4),
    ],
)
def test_cores_are_those_that_the_process_may_use(
    text: str, bound: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text + "\n")
    monkeypatch.setattr(process, "_QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound)), raising=False)
    assert process.usable_cores() == expected


def test_threads_are_set_before_torch_loads_unless_the_user_set_them() -> None:
    code = (
        "import os, sys; from tcgn_mil.experiments.command_line.process import prepare_threads;"
        " prepare_threads(); assert 'torch' not in sys.modules;"
        " print(os.environ['OMP_WAIT_POLICY'], os.environ.get('GOMP_SPINCOUNT'))"
    )
    threads = ("OMP_", "GOMP_")
    plain = {key: value for key, value in os.environ.items() if not key.startswith(threads)}
    cases: list[tuple[dict[str, str], str]] = [
        ({}, "PASSIVE 1000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"GOMP_SPINCOUNT": "0"}, "PASSIVE 0"),
    ]
    for given, expected in cases:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=plain | given,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected


def of_torchrun(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)


def test_torchrun_is_refused_for_verbs_that_do_not_share_their_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process.check_launcher("encode")
    of_torchrun(0, monkeypatch)
    for verb in ("pretrain", "spot-cv", "finetune", "slide-cv"):
        process.check_launcher(verb, [verb, "--out", "x"])
    with pytest.raises(InputError, match="--devices or --shard"):
        process.check_launcher("encode")
    with pytest.raises(InputError, match="trains nothing"):
        process.check_launcher("slide-cv", ["slide-cv", "--compare", "a", "b"])


def test_the_first_process_of_torchrun_alone_locks_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @one_at_a_time
    def files(out: Path) -> list[Path]:
        return list(out.iterdir())

    monkeypatch.setenv("RANK", "1")  # of another launcher, which says nothing here
    assert files(out=tmp_path / "alone")
    of_torchrun(1, monkeypatch)
    (tmp_path / "beside").mkdir()
    assert not files(out=tmp_path / "beside")


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_of_torchrun_alone_prints_and_writes_logs(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_torchrun(rank, monkeypatch)
    monkeypatch.setattr(session, "_BEFORE_REPORT_S", 0.0)
    log = tmp_path / "all.log"
    for arguments in (["--show-config"], ["--cohort", str(tmp_path / "none.h5ad")]):
        command = ["finetune", *arguments, "--log-file", str(log), "--out", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", ["tcgn-mil", *command])
        with pytest.raises(SystemExit):
            main()
    printed = capsys.readouterr()
    assert bool(printed.out) == log.exists() == (rank == 0)
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: " if rank == 0 else "process 1 of torchrun: error: ")
    assert not (tmp_path / "out").exists()
