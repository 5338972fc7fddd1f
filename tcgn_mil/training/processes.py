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
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as distributed
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, nn

from tcgn_mil.devices import map_tensors, resolve_device
from tcgn_mil.errors import InputError
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.text import counted
from tcgn_mil.types.processes import Processes


def open_fabric(config: TrainingConfig) -> Fabric:
    """Return Fabric for the device of a config, or for those of the processes of torchrun.

    Parameters
    ----------
    config
        Device and precision.

    Raises
    ------
    InputError
        If the device does not exist, if it is one device by number and torchrun started several
        processes, or if this machine has fewer devices than processes.
    """
    processes = Processes.launched()
    device = resolve_device(config.accelerator)
    if processes.count == 1:
        return Fabric(
            accelerator=device.type,
            devices=[device.index] if device.type == "cuda" and device.index is not None else 1,
            precision=config.precision,
        )
    if ":" in config.accelerator:
        raise InputError(
            f"training.accelerator={config.accelerator} names one device, but torchrun started"
            f" {processes.count} processes, each with its own",
            fix="set training.accelerator to auto, cuda or cpu",
        )
    devices = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type, processes.on_machine)
    if devices < processes.on_machine:
        raise InputError(
            f"torchrun started {processes.on_machine} processes on this machine, which has"
            f" {counted(devices, f'{device.type} device')}",
            fix=f"start torchrun with --nproc-per-node={devices}, or set training.accelerator=cpu",
        )
    fabric = Fabric(
        accelerator=device.type,
        devices=processes.on_machine,
        num_nodes=processes.count // processes.on_machine,
        # Parts of a network may be left out of a step, such as a head that is not trained.
        strategy=DDPStrategy(find_unused_parameters=True),
        precision=config.precision,
    )
    fabric.launch()
    return fabric


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
        # A process without rows of a small batch runs the first one. Its output is left out, and so
        # is its part of the statistics of batch normalisation.
        _Statistics.with_own_rows = own.stop > own.start
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


class _Statistics:
    """State of shared batch normalisation, up to the next step.

    A context would not do, since layers that are checkpointed run again in the backward pass.
    """

    with_own_rows = True


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
    weight_of_own = float(_Statistics.with_own_rows)
    own_count = wide.new_tensor([wide.numel() / wide.shape[1]])
    # Two passes, since the mean of squares loses digits where the mean is large.
    total: Tensor = _Sum.apply(torch.cat([wide.sum(dim=axes), own_count]) * weight_of_own)
    count = total[-1]
    mean = total[:-1] / count
    centred = wide - mean.view(shape)
    variance: Tensor = _Sum.apply(centred.square().sum(dim=axes) * weight_of_own) / count
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
