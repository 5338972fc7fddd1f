"""Describe this process among those that torchrun started."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes
    ----------
    rank
        From 0 to `count` - 1. The first process alone writes files.
    count
        Number of processes.
    on_machine
        Number of processes on this machine.
    """

    rank: int = 0
    count: int = 1
    on_machine: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and reports results."""
        return self.rank == 0

    @classmethod
    def launched(cls) -> Processes:
        """Return what torchrun set in the environment; one process without torchrun."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))

    def rows(self, size: int) -> list[slice]:
        """Cut a batch into the rows of each process; the first ones take the rows left over.

        Examples
        --------
        >>> Processes(0, 2).rows(5)
        [slice(0, 3, None), slice(3, 5, None)]
        """
        each, left = divmod(size, self.count)
        edges = [rank * each + min(rank, left) for rank in range(self.count + 1)]
        return [slice(edges[rank], edges[rank + 1]) for rank in range(self.count)]
