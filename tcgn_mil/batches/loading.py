"""What comes when in an epoch: seeds for its draws, and its batches.

Making items ahead of their use in a thread, so that reading hides behind computing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor


def derive_seed(*parts: int) -> int:
    """One seed from several non-negative numbers (seed, epoch, purpose), unrelated to that of any other numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def split_order(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into batches, keeping the last incomplete one.

    A last batch of one joins the batch before it, since BatchNorm cannot train on one sample; unless one is the size.
    """
    batches = list(order.split(batch_size))
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


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
