"""Share items out among workers, each of which takes the next one when it is free.

The death of a worker concerns its own item alone. The rule is one for all kinds of workers: an item
whose worker died is tried once more, and is given up if its worker dies again. An item of a worker
that turns out to be unfit is given to others.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from tcgn_mil.preprocessing.parallel import Outcome

TRIES = 2

Opener: TypeAlias = Callable[[str], Callable[[Any], Any]]
"""Prepares a worker, for example opens its encoder: given the name of its device, it returns the
function that works on an item. Both must be picklable, and so must items and results."""


@dataclass(frozen=True)
class Ended:
    """The end of the work of one worker on its item.

    Attributes
    ----------
    worker
        Number of the worker.
    result
        Result of the function; None if the worker died.
    died
        Whether the worker died.
    unfit
        Reason why the worker cannot work on any item, for example because its machine does not see
        the files. It gets no other item.
    """

    worker: int
    result: Any = None
    died: bool = False
    unfit: str = ""


class Crew(Protocol):
    """Workers with the numbers 0 to `size` - 1."""

    size: int

    def start(self, worker: int, item: Any) -> None:
        """Give an item to a worker that is free."""

    def wait(self) -> list[Ended]:
        """Wait until at least one worker has ended; raise what its function raised."""
        ...

    def replace(self, worker: int) -> bool:
        """Put another worker into the place of one that died; False if there is no room for it."""
        ...


def share_out(items: Sequence[Any], crew: Crew) -> Iterator[Outcome[Any]]:
    """Work through items.

    Yields
    ------
    Outcome
        One for each item, as soon as it is ready. If no worker is left, the reason is given for
        each of the other items.
    """
    waiting, free = deque(range(len(items))), deque(range(crew.size))
    busy: dict[int, int] = {}
    tries = Counter[int]()
    unfit = ""
    while waiting or busy:
        while waiting and free:
            worker, index = free.popleft(), waiting.popleft()
            busy[worker] = index
            tries[index] += 1
            crew.start(worker, items[index])
        if not busy:
            for index in waiting:
                yield Outcome(index, None, reason=unfit or "all workers died before its turn")
            return
        for ended in crew.wait():
            index = busy.pop(ended.worker)
            if ended.unfit:
                unfit = ended.unfit
                tries[index] -= 1
                waiting.appendleft(index)
                continue
            if not ended.died or crew.replace(ended.worker):
                free.append(ended.worker)
            if not ended.died:
                yield Outcome(index, ended.result)
            elif tries[index] < TRIES:
                waiting.appendleft(index)
            else:
                yield Outcome(index, None, died=True)
