"""The same work on many things by several processes, of which one may die without taking the run along.

Processes are spawned, not forked: a fork of a process that runs threads (OpenSlide's cache, OpenCV, BLAS) may hang. At
most one thing a worker is handed out at a time, so that a death costs no more than those; they are then tried again one
by one, each in a process of its own, and a thing whose process dies twice more is given up. So a thing that merely had
a greedy neighbour is not blamed.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
from threadpoolctl import threadpool_limits

TRIES_ALONE = 2  # the first death may have been a neighbour's

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of the thing at `index`: its result, or None and `died` where its process died every time."""

    index: int
    result: Result | None
    died: bool = False


def run_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Outcome[Result]]:
    """Apply `function` to each item; outcomes come as they are ready, in any order.

    Parameters
    ----------
    function
        Importable by a fresh process, like the items and results.
    workers
        Processes; 1 works in this one.

    Raises
    ------
    Exception
        Whatever `function` raises; what has not begun is then left undone, what runs is finished first. On Ctrl-C the
        workers stop where they are.
    """
    if workers <= 1:
        for index, item in enumerate(items):
            yield Outcome(index, function(item))
        return
    pending, suspects = deque(range(len(items))), deque[int]()
    while pending:
        yield from _run_pool(function, items, pending, suspects, workers)
        while suspects:
            index = suspects.popleft()
            for _ in range(TRIES_ALONE):
                dead = deque[int]()
                yield from _run_pool(function, items, deque([index]), dead, 1)
                if not dead:
                    break
            else:
                yield Outcome(index, None, died=True)


def _run_pool(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    pending: deque[int],
    lost: deque[int],
    workers: int,
) -> Iterator[Outcome[Result]]:
    """Work through `pending` until it is empty or a process dies; what was in hand then goes to `lost`."""
    with _pool(min(workers, len(pending))) as pool:
        running: dict[Future[Result], int] = {}
        try:
            while pending or running:
                while pending and len(running) < workers:
                    running[pool.submit(_call, function, items[pending[0]])] = pending[0]
                    pending.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield Outcome(running.pop(future), result)
        except BrokenProcessPool:
            lost.extend(sorted(running.values()))


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """One thread a process, or N workers would start N times as many threads as there are cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threadpool_limits(1)


def _call(function: Callable[[Item], Result], item: Item) -> Result:
    """Ctrl-C, which reaches all processes of a terminal, interrupts a worker only while it works."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return function(item)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
