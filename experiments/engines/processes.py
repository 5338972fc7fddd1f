"""Workers that are processes of this machine, one a device.

Each has a pool of its own, so that the death of one leaves the others at work. Processes are
spawned; :mod:`tcgn_mil.preprocessing.parallel` gives the reason.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any

from tcgn_mil.experiments.engines.crew import Ended, Opener
from tcgn_mil.preprocessing.parallel import call_interruptibly, end_with_parent

_opened: dict[str, Callable[[Any], Any]] = {}  # in a worker: its function, by its device


class ProcessCrew:
    """Processes, one for each name of a device; see :class:`~.crew.Crew`.

    Parameters
    ----------
    opener
        Prepares a worker for its device.
    devices
        Names of the devices; a name may be there several times.
    """

    def __init__(self, opener: Opener, devices: Sequence[str]) -> None:
        self.size, self._opener, self._devices = len(devices), opener, list(devices)
        self._pools = [_pool() for _ in devices]
        self._running: dict[Future[Any], int] = {}

    def start(self, worker: int, item: Any) -> None:
        """Give an item to a worker."""
        future = self._pools[worker].submit(_work, self._opener, self._devices[worker], item)
        self._running[future] = worker

    def wait(self) -> list[Ended]:
        """Wait until at least one worker has ended."""
        ended = []
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            worker = self._running.pop(future)
            try:
                ended.append(Ended(worker, future.result()))
            except BrokenProcessPool:
                ended.append(Ended(worker, died=True))
        return ended

    def replace(self, worker: int) -> bool:
        """Start another process on the device of one that died."""
        self._pools[worker].shutdown()
        self._pools[worker] = _pool()
        return True

    def __enter__(self) -> ProcessCrew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # The bars of several workers would overwrite one another. tqdm reads this when it is imported.
    os.environ["TQDM_DISABLE"] = "1"


def _work(opener: Opener, device: str, item: Any) -> Any:
    """Work on an item; the first one also opens what the worker keeps."""
    if device not in _opened:
        _opened[device] = opener(device)
    return call_interruptibly(_opened[device], item)
