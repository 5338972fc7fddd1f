"""Making items ahead of their use in a thread, so that reading hides behind computing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar, cast

import torch

Item = TypeVar("Item")


@contextmanager
def prefetch(source: Iterable[Item], *, depth: int = 4) -> Iterator[Iterator[Item]]:
    """Yield an iterator whose items are made by a thread, up to `depth` ahead; its exceptions are raised here.

    Leaving the context stops the thread and closes the source, whether the items were used up or not.
    """
    items, end = iter(source), object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        _on_one_core(thread)

        def start_next() -> Future[Item | object]:
            return thread.submit(next, items, end)

        waiting = deque(start_next() for _ in range(depth))

        def consume() -> Iterator[Item]:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(start_next())
                yield cast(Item, item)

        try:
            yield consume()
        finally:
            thread.shutdown(cancel_futures=True)
            close = getattr(items, "close", None)
            if close is not None:
                close()


def _on_one_core(thread: ThreadPoolExecutor) -> None:
    """Let torch use one core in `thread`: two teams of threads on the same cores wait for each other many times over.

    The count is each thread's own once it has asked for it, but the last one set is also what later threads begin with,
    hence it is set back.
    """
    count = torch.get_num_threads()
    thread.submit(torch.get_num_threads).result()
    thread.submit(torch.set_num_threads, 1).result()
    torch.set_num_threads(count)
