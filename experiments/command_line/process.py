"""Manners of the command as a process: threads that wait quietly, and a clear end by Ctrl-C."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tcgn_mil.errors import InputError
from tcgn_mil.types.processes import Processes

INTERRUPTED = 128 + signal.SIGINT  # exit code of a command that was stopped by Ctrl-C
# Verbs that several processes of torchrun train together.
TRAINED_TOGETHER = ("pretrain", "spot-cv", "finetune", "slide-cv")
_SPINS = "1000"
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class InterruptedByUserError(BaseException):
    """Ctrl-C, which ends the command with one line.

    It is not a KeyboardInterrupt, because the library of the command line would turn that into an
    exit code of its own.
    """


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C into :class:`InterruptedByUserError` while the command runs."""

    def stop(_: int, frame: FrameType | None) -> None:
        raise InterruptedByUserError

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def usable_cores() -> int:
    """Return the number of cores that this process may use.

    It is the smaller one of the cores that the process is bound to and the quota of its container,
    and may be far below the number of cores of the machine.

    Examples
    --------
    >>> 1 <= usable_cores() <= os.cpu_count()
    True
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = bound or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no quota ("max")
        return cores


def check_launcher(verb: str, arguments: Sequence[str] = ()) -> None:
    """Refuse a command that torchrun started several times and that would not share its work.

    Parameters
    ----------
    verb
        The verb.
    arguments
        The whole command line.

    Raises
    ------
    InputError
        If torchrun started several processes of a verb other than those of `TRAINED_TOGETHER`, or
        of a comparison of runs.
    """
    if Processes.launched().count == 1:
        return
    if verb not in TRAINED_TOGETHER:
        raise InputError(
            f"torchrun started tcgn-mil {verb} several times, and each would do all of the work",
            fix=f"start it without torchrun; torchrun serves {', '.join(TRAINED_TOGETHER)} alone,"
            " and --devices or --shard share the slides of tile, encode and predict",
        )
    if "--compare" in arguments:
        raise InputError(
            f"torchrun started tcgn-mil {verb} --compare several times, but it trains nothing",
            fix="start it without torchrun",
        )


def prepare_threads() -> None:
    """Set how the threads of torch and numpy wait, and their number, before these are loaded.

    By default the threads of OpenMP spin while they wait. Two processes on the same cores then slow
    each other down tenfold. So they spin for some microseconds only, which bridges the gap between
    two short operations, and then sleep (experiments/results/scale.md has the measurements). A
    value that the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    cores = usable_cores()
    if cores < (os.cpu_count() or 1):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, str(cores))
