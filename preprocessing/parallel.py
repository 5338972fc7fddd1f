"""Apply a function to many items in several processes, and survive the death of a process.

A process can die on a damaged slide (a crash inside a C library) or when memory runs out. One such
slide must not end a run over thousands. The rules are:

- Processes are spawned, not forked. A process that is forked from one with running threads
  (OpenSlide's cache, OpenCV, BLAS) may hang.
- Each worker is given one item at a time, so that a death concerns at most one item per worker.
- The items that were in work at a death are tried again alone, each in a process of its own. An
  item whose process dies `TRIES_ALONE` more times is given up. So an item is not blamed for the
  memory that its neighbour took.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
from threadpoolctl import threadpool_limits

from tcgn_mil.io.failures import Failure

TRIES_ALONE = 2
_SAME_PATHS = (
    "mount the slides and the output folder on all machines under the same path, and run the"
    " command again; what is done is not done again"
)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """Outcome of one item.

    Attributes
    ----------
    index
        Position of the item.
    result
        Result of the function; None if the process died.
    died
        True if the process died every time.
    reason
        Reason why no process worked on the item; empty if one did.
    """

    index: int
    result: Result | None
    died: bool = False
    reason: str = ""


def outcome_of(
    outcome: Outcome[Failure | None], slide: str, stage: str, death: tuple[str, str]
) -> Failure | None:
    """Return the failure of a slide, also if no process was able to tell of it.

    Parameters
    ----------
    outcome
        Outcome of the slide.
    slide, stage
        Name of the slide, and the step.
    death
        Reason and fix to give if its process died.
    """
    if outcome.reason:
        return Failure(slide, stage, outcome.reason, _SAME_PATHS)
    return Failure(slide, stage, *death) if outcome.died else outcome.result


def run_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Outcome[Result]]:
    """Apply a function to each item in several processes.

    Parameters
    ----------
    function
        Function to apply. A fresh process must be able to import it, and it, the items and the
        results must be picklable.
    items
        Arguments, one a call.
    workers
        Number of processes. With 1 the work is done in this process.

    Yields
    ------
    Outcome
        One for each item, as soon as it is ready, so in any order.

    Raises
    ------
    Exception
        Whatever `function` raises. Items in work are then finished, and no others are begun. On
        Ctrl-C the workers stop at once.

    Examples
    --------
    >>> [outcome.result for outcome in run_in_processes(len, ["a", "bc"], workers=1)]
    [1, 2]
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
    """Work through `pending` until it is empty or a process dies.

    The items that were in work at a death are added to `lost`.
    """
    with _pool(min(workers, len(pending))) as pool:
        running: dict[Future[Result], int] = {}
        try:
            while pending or running:
                while pending and len(running) < workers:
                    running[pool.submit(call_interruptibly, function, items[pending[0]])] = pending[
                        0
                    ]
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
    """Give each process one thread; otherwise N workers would start N threads for every core."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    cv2.setNumThreads(1)
    threadpool_limits(1)


def end_with_parent() -> None:
    """End this process when the one that started it ends, for example by ``kill -9``.

    A pool does not notice that, and its processes would wait for work for ever.
    """

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def call_interruptibly(function: Callable[[Item], Result], item: Item) -> Result:
    """Call the function so that Ctrl-C interrupts it.

    A terminal sends Ctrl-C to all processes. A worker reacts to it only while it works: an idle one
    that was interrupted would break the pool with a traceback of its own.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return function(item)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
