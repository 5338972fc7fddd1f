"""Train with several processes that torchrun started, on one machine or on several.

Each process reads every batch, runs the network on its own rows of it, and receives the outputs of
the other rows from the other processes. So each computes the loss of the whole batch. A step is
that of one process with the same batch, also for losses that do not add up over samples, such as a
correlation over the batch or a mean over the targets that are known. Batch normalisation takes its
mean and variance over the rows of all processes, too. Only the masks of dropout differ from those
of one process.

Gradients are averaged over the processes by torch's DistributedDataParallel, which Fabric sets up.
A process has gradients through its own rows only. Of P processes each therefore counts its own rows
P times, so that the average is the gradient of the loss of the batch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from torch import Tensor, nn

from tcgn_mil.devices import map_tensors
from tcgn_mil.errors import InputError
from tcgn_mil.text import preview


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
        """Whether this process writes."""
        return self.rank == 0

    @classmethod
    def launched(cls) -> Processes:
        """Return what torchrun set in the environment; one process without torchrun."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))

    def rows(self, size: int) -> list[slice]:
        """Cut a batch into the rows of each process.

        Examples
        --------
        >>> Processes(0, 2).rows(5)
        [slice(0, 3, None), slice(3, 5, None)]
        """
        sizes = [len(part) for part in np.array_split(np.arange(size), self.count)]
        edges = np.cumsum([0, *sizes]).tolist()
        return [slice(first, last) for first, last in pairwise(edges)]


class SharedNetwork:
    """A network that is called with whole batches and runs on the rows of this process.

    Parameters
    ----------
    network
        The network in DistributedDataParallel, as Fabric returns it. All tensors that it takes and
        returns have the samples of the batch in their first dimension.
    processes
        The processes.
    """

    def __init__(self, network: nn.Module, processes: Processes) -> None:
        self.network, self.processes = network, processes

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Return the outputs for all rows of the batch."""
        sizes: list[int] = []
        map_tensors((list(inputs), list(named.values())), lambda part: sizes.append(len(part)))
        rows = self.processes.rows(sizes[0])
        own = rows[self.processes.rank]
        # A process without rows of a small batch runs the first one, and its output is left out.
        taken = own if own.stop > own.start else slice(0, 1)

        def cut(value: Any) -> Any:
            return map_tensors(value, lambda part: part[taken])

        outputs = self.network(
            *map(cut, inputs), **{key: cut(value) for key, value in named.items()}
        )
        return map_tensors(outputs, lambda part: self._gather(part, rows))

    def _gather(self, own: Tensor, rows: list[slice]) -> Tensor:
        """Put the rows of all processes together, with gradients through those of this one."""
        mine = rows[self.processes.rank]
        most = max(part.stop - part.start for part in rows)
        padded = own.new_zeros(most, *own.shape[1:])
        size = mine.stop - mine.start
        padded[:size] = own[:size].detach()
        every = [torch.empty_like(padded) for _ in rows]
        distributed.all_gather(every, padded)
        count = self.processes.count
        # The value of the own rows, with `count` times their gradient.
        counted = own[:size] * count - (own[:size] * (count - 1)).detach()
        parts = [
            counted if rank == self.processes.rank else whole[: part.stop - part.start]
            for rank, (whole, part) in enumerate(zip(every, rows, strict=True))
        ]
        # The output of a process without rows takes part with a weight of 0, since
        # DistributedDataParallel waits for a gradient of every process.
        return torch.cat(parts) + (0.0 * own.sum() if size == 0 else 0.0)


def check_same_config(config: Mapping[str, Any], model: nn.Module) -> None:
    """Check that all processes train the same model by the same settings.

    Raises
    ------
    InputError
        In all processes, with the keys that differ.
    """
    own = {**config, "shapes of the model": [list(part.shape) for part in model.parameters()]}
    every: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(every, own)
    # Compared with the first process, so that all processes find the same.
    differing = sorted(
        {key for other in every for key in every[0] if other.get(key) != every[0][key]}
    )
    if differing:
        raise InputError(
            f"the processes of torchrun have different settings: {preview(differing)}",
            fix="give the same config and the same input files to all machines",
        )


@contextlib.contextmanager
def shared_batch_normalisation(processes: Processes) -> Iterator[None]:
    """Let batch normalisation take its statistics over all processes during the block.

    torch's SyncBatchNorm does so on GPUs alone, and puts other layers into the network.
    """
    if processes.count == 1:
        yield
        return
    plain = nn.functional.batch_norm

    def shared(
        value: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return plain(value, running_mean, running_var, weight, bias, training, momentum, eps)
        return _shared_batch_norm(
            value, running_mean, running_var, weight, bias, momentum=momentum, eps=eps
        )

    nn.functional.batch_norm = shared  # type: ignore[assignment]
    try:
        yield
    finally:
        nn.functional.batch_norm = plain


class _Sum(torch.autograd.Function):
    """Sum of a tensor over the processes. Its gradient is the sum of the gradients."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        """Return the sum."""
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of the own tensor."""
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


def _shared_batch_norm(
    value: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    momentum: float,
    eps: float,
) -> Tensor:
    """Normalise (B, C, ...) by the mean and variance of each channel over all processes."""
    wide = value.float()
    axes = [axis for axis in range(wide.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(wide.ndim)]
    own_count = wide.new_tensor([wide.numel() / wide.shape[1]])
    # Two passes, since the mean of squares loses digits where the mean is large.
    total: Tensor = _Sum.apply(torch.cat([wide.sum(dim=axes), own_count]))
    count = total[-1]
    mean = total[:-1] / count
    centred = wide - mean.view(shape)
    variance: Tensor = _Sum.apply(centred.square().sum(dim=axes)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * count / (count - 1).clamp(min=1)
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    result = centred * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        result = result * weight.float().view(shape)
    if bias is not None:
        result = result + bias.float().view(shape)
    return result.to(value.dtype)
