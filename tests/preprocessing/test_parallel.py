"""Tests of work in several processes.

All items are done, a process that dies loses only its own item, and Ctrl-C stops the work.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.parallel import run_in_processes

HERE = Path(__file__).parent


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(HERE)
    import worker_tasks

    return worker_tasks


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_is_worked_on_once(tasks, workers: int) -> None:
    outcomes = list(run_in_processes(tasks.square, [1, 2, 3, 4, 5], workers))
    assert {outcome.index: outcome.result for outcome in outcomes} == {
        0: 1,
        1: 4,
        2: 9,
        3: 16,
        4: 25,
    }
    assert len(outcomes) == 5


def test_a_process_that_dies_costs_its_own_item(tasks) -> None:
    outcomes = sorted(
        run_in_processes(tasks.square, [1, -2, 3, 4, -5, 6], 2), key=lambda outcome: outcome.index
    )
    assert [outcome.result for outcome in outcomes] == [1, None, 9, 16, None, 36]
    assert [outcome.died for outcome in outcomes] == [False, True, False, False, True, False]


def test_an_item_gets_a_second_chance_alone(tasks, tmp_path: Path) -> None:
    (outcome, other) = run_in_processes(tasks.die_once, [tmp_path / "a", tmp_path / "b"], 2)
    assert {outcome.result, other.result} == {"a", "b"}


def test_errors_come_back_as_they_were(tasks) -> None:
    with pytest.raises(InputError, match=r"no 1\. Fix: give another"):
        list(run_in_processes(tasks.refuse, [1, 1, 1], 2))


def test_a_worker_has_one_thread(tasks) -> None:
    outcomes = list(run_in_processes(tasks.threads, [0, 0], 2))
    for outcome in outcomes:
        opencv, others = outcome.result
        assert opencv == 1
        assert set(others) <= {1}


def test_ctrl_c_stops_all_processes_at_once(tmp_path: Path) -> None:
    """Only the parent process reports it, once."""
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "import pathlib, worker_tasks\n"
        "from tcgn_mil.preprocessing.parallel import run_in_processes\n"
        "if __name__ == '__main__':\n"
        f"    folder = pathlib.Path({str(tmp_path)!r})\n"
        "    list(run_in_processes(worker_tasks.sleep, [folder / name for name in 'abcd'], 2))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    run = subprocess.Popen(
        [sys.executable, script], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    for _ in range(300):
        if (tmp_path / "a").exists() and (tmp_path / "b").exists():
            break
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    _, told = run.communicate(timeout=20)
    assert run.returncode != 0
    assert told.rstrip().endswith("KeyboardInterrupt")
    assert told.count("Process SpawnProcess") == 0, told
    assert not (tmp_path / "c").exists()


def test_workers_end_when_the_command_is_killed(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "import pathlib, worker_tasks\n"
        "from tcgn_mil.preprocessing.parallel import run_in_processes\n"
        "if __name__ == '__main__':\n"
        f"    folder = pathlib.Path({str(tmp_path)!r})\n"
        "    list(run_in_processes(worker_tasks.sleep, [folder / name for name in 'ab'], 2))\n"
    )
    (tmp_path / "script.py").write_text(code)
    run = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"], start_new_session=True, stdout=subprocess.PIPE
    )
    for _ in range(300):
        if (tmp_path / "a").exists() and (tmp_path / "b").exists():
            break
        time.sleep(0.1)
    run.kill()
    # The workers hold the other end of the pipe. Their work takes longer than this.
    assert run.communicate(timeout=30)[0] == b""
