"""Measure the time of a command and the memory of all its processes, on Linux."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.text import preview

SAMPLE_S = 0.05
# Fields of /proc/<pid>/stat after the name, which is in brackets.
_PARENT, _SESSION, _SIZE, _RESIDENT = 1, 3, 20, 21
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 2**20


class Cost(NamedTuple):
    """Cost of a command and the processes that it starts.

    Attributes
    ----------
    wall_s
        Seconds by the clock.
    cpu_s
        Seconds of all cores, which other programs on the machine disturb less.
    peak_mib
        Largest sum of the resident memory of its processes, looked at 20 times a second. Memory
        that two of them share counts twice. The kernel's own maximum is not used, because it starts
        with the memory of the process that started the command.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


def verb(*arguments: str | Path) -> list[str]:
    """Return the command line of a verb of ``tcgn-mil``."""
    return [sys.executable, "-m", "tcgn_mil.experiments.main", *map(str, arguments)]


def cost_of(command: Sequence[str], log: Path) -> Cost:
    """Run a command and return its cost.

    Parameters
    ----------
    command
        The command line.
    log
        File that receives what the command prints.

    Raises
    ------
    InputError
        If the command fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start, peak = time.perf_counter(), 0
    with log.open("wb") as said:
        # Processes that it starts stay in its session, by which they are found.
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(SAMPLE_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(
            f"the command {preview(command[2:6])} ended with status {process.returncode}",
            path=log,
            fix="read what it printed in this file",
        )
    wall = time.perf_counter() - start
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak / _MIB)


def resident_bytes(session: int) -> int:
    """Return the resident memory of all processes of a session.

    A child that has just been started, and does not run its own program yet, has the memory of its
    parent, which counts once. It is told by the size of its address space.
    """
    processes: dict[int, tuple[int, int, int]] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it ended
            continue
        fields = stat.rpartition(")")[2].split()
        if int(fields[_SESSION]) == session:
            parent, size, pages = (int(fields[field]) for field in (_PARENT, _SIZE, _RESIDENT))
            processes[int(folder.name)] = parent, size, pages * _PAGE
    return sum(
        resident
        for parent, size, resident in processes.values()
        if parent not in processes or processes[parent][1] != size
    )
