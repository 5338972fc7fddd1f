"""Seeds, order, samples and reading ahead, which all kinds of batches share."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def derive_seed(*parts: int) -> int:
    """Make one seed of several numbers, such as seed, epoch and purpose.

    Parameters
    ----------
    *parts
        Numbers of at least 0. Different numbers give unrelated seeds.

    Returns
    -------
    Seed from 0 to below 2^63.

    Examples
    --------
    >>> derive_seed(0, 1) == derive_seed(0, 1), derive_seed(0, 1) == derive_seed(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def split_order(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order (N,) of samples into batches, and keep the last incomplete one.

    A last batch of one sample joins the batch before it, since batch normalisation cannot train on
    one sample (unless `batch_size` is one).
    """
    batches = list(order.split(batch_size))
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def sample_rows(
    counts: Sequence[int], size: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Draw rows without replacement from several tables as if they were one.

    Parameters
    ----------
    counts
        Number of rows of each table.
    size
        Number of rows to draw; all of them if there are fewer.
    generator
        Source of randomness.

    Returns
    -------
    For each table the rows that were drawn, in ascending order.
    """
    total = sum(counts)
    rows = np.sort(generator.choice(total, size=min(size, total), replace=False))
    starts = np.cumsum([0, *counts])
    parts = np.split(rows, np.searchsorted(rows, starts[1:-1]))
    return [part - start for part, start in zip(parts, starts[:-1], strict=True)]


Item = TypeVar("Item")


@contextmanager
def prefetch(source: Iterable[Item], *, depth: int = 4) -> Iterator[Iterator[Item]]:
    """Make items in a thread ahead of their use, so that reading happens during computing.

    Parameters
    ----------
    source
        Items to make. An exception that it raises is raised where the items are used.
    depth
        Largest number of items that are made ahead.

    Yields
    ------
    Iterator over the items. Leaving the context stops the thread and closes the source, whether or
    not all items were used.
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
    """Let torch use one core in `thread`.

    Otherwise this thread and the main one have a team of threads each on the same cores, and the
    teams wait for one another much of the time.
    """
    # Torch keeps the number for each thread, once the thread has asked for it. But the number set
    # last is also the one that later threads start with, so it is set back.
    count = torch.get_num_threads()
    thread.submit(torch.get_num_threads).result()
    thread.submit(torch.set_num_threads, 1).result()
    torch.set_num_threads(count)
