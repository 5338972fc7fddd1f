"""Let the processes of torchrun agree: on settings, on what the first one finds, and on errors.

The first process alone reads and writes the folder of a run. What it finds there, such as a fold
that is finished or a state to resume, it tells to the others. So all of them go the same way, also
where they do not see the same disk. An error of one process ends all of them with one message.

Without torchrun each function here does the work of the one process.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as distributed
from torch import Tensor

from tcgn_mil.config import differing_keys
from tcgn_mil.errors import InputError, ReportedElsewhereError
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.text import preview
from tcgn_mil.training.processes import open_fabric
from tcgn_mil.types.processes import Processes

T = TypeVar("T")

# In a step of training, a process that waits for 10 to 30 minutes counts as dead. Between steps the
# others may wait for hours, while the first process predicts, refits and draws.
_LONGEST_WAIT = timedelta(days=365)
# Words in the errors of gloo if a process is gone.
_ENDED = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")


def join_processes(config: TrainingConfig, settings: Mapping[str, Any]) -> None:
    """Connect the processes of torchrun at the start of a run, and compare their settings.

    Parameters
    ----------
    config
        Device of the training.
    settings
        All that decides the result of the run, as plain values.

    Raises
    ------
    InputError
        If a device does not exist, or if the settings differ between the processes.
    """
    if Processes.launched().count > 1:
        with lost_processes():
            open_fabric(config)
    check_same(
        settings, "have different settings", fix="give the same options and config to all machines"
    )


@functools.cache
def _waiting_group() -> Any:
    """Return the group in which processes wait for each other without a limit."""
    return distributed.new_group(backend="gloo", timeout=_LONGEST_WAIT)


def from_first(work: Callable[[], T]) -> T:
    """Do some work in the first process alone, and return its result in all.

    Parameters
    ----------
    work
        Function that needs no other process. Its result is pickled.

    Raises
    ------
    InputError
        In all processes, if `work` raises one.
    """
    processes = Processes.launched()
    if processes.count == 1:
        return work()
    told: list[Any] = [None, None]  # result, error
    if processes.is_first:
        try:
            told[0] = work()
        except InputError as error:
            told[1] = error
    with lost_processes():
        distributed.broadcast_object_list(told, src=0, group=_waiting_group())
    if told[1] is not None:
        raise told[1] if processes.is_first else _reported_elsewhere(told[1])
    return told[0]


def from_each(own: T) -> list[T]:
    """Return a value of each process, in the order of the processes, to all.

    Parameters
    ----------
    own
        Value of this process. It is pickled.
    """
    count = Processes.launched().count
    if count == 1:
        return [own]
    every: list[Any] = [None] * count
    with lost_processes():
        distributed.all_gather_object(every, own, group=_waiting_group())
    return every


def in_all(work: Callable[[], T]) -> T:
    """Do the same work in every process, and return the result of this one.

    Parameters
    ----------
    work
        Function that needs no other process.

    Raises
    ------
    InputError
        In all processes, if `work` raises one in any of them.
    """
    processes = Processes.launched()
    if processes.count == 1:
        return work()
    value: T | None = None
    own: InputError | None = None
    try:
        value = work()
    except InputError as error:
        own = error
    failed = [(rank, other) for rank, other in enumerate(from_each(own)) if other is not None]
    if not failed:
        return cast(T, value)
    rank, told = failed[0]
    if rank > 0:
        reason = f"in process {rank} of torchrun: {told.reason}"
        told = InputError(reason, path=told.path, fix=told.fix)
    elif own is not None and processes.is_first:
        told = own  # with the place in the code where it arose
    raise told if processes.is_first else _reported_elsewhere(told)


def check_same(values: Mapping[str, Any], what: str, *, fix: str) -> None:
    """Check that values are the same in all processes.

    Parameters
    ----------
    values
        Plain values by name, which may be nested.
    what
        What the processes do if they differ, such as ``have different settings``.
    fix
        One thing that the user can do.

    Raises
    ------
    InputError
        In all processes, with the names that differ from those of the first process.
    """
    if Processes.launched().count == 1:
        return
    first, *others = from_each(dict(values))
    differing = sorted({name for other in others for name in differing_keys(first, other)})
    if not differing:
        return
    error = InputError(f"the processes of torchrun {what}: {preview(differing)}", fix=fix)
    raise error if Processes.launched().is_first else _reported_elsewhere(error)


def tensors_from_first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the first process, which are on the CPU, in all processes.

    They are sent one by one, since a state can be larger than the memory left beside the network.
    """
    processes = Processes.launched()
    if processes.count == 1:
        return dict(tensors)
    layout = from_first(lambda: {key: (part.shape, part.dtype) for key, part in tensors.items()})
    received = {}
    for name, (shape, dtype) in layout.items():
        tensor = tensors[name] if processes.is_first else torch.empty(shape, dtype=dtype)
        with lost_processes():
            # As bytes, because gloo does not send every type.
            distributed.broadcast(
                tensor.reshape(-1).view(torch.uint8), src=0, group=_waiting_group()
            )
        received[name] = tensor
    return received


@contextlib.contextmanager
def lost_processes() -> Iterator[None]:
    """Turn the error of a connection into one line if another process has ended.

    Raises
    ------
    InputError
        If another process ended during the block. In the first process it says so. Any other
        process ends silently: torchrun and the process that failed report the failure.
    """
    try:
        yield
    except RuntimeError as error:
        of_connection = isinstance(error, distributed.DistError) or any(
            words in str(error) for words in ("gloo", *_ENDED)
        )
        if Processes.launched().count == 1 or not of_connection:
            raise
        # gloo names the end of a connection in many technical words, which tell no more.
        ended = any(words in str(error) for words in _ENDED)
        detail = "" if ended else f" ({str(error).splitlines()[0]})"
        lost = InputError(
            f"another process of torchrun has ended{detail}",
            fix="read the message of that process, and start torchrun again to continue",
        )
        raise (lost if Processes.launched().is_first else _reported_elsewhere(lost)) from error


def _reported_elsewhere(error: InputError) -> ReportedElsewhereError:
    return ReportedElsewhereError(error.reason, path=error.path, fix=error.fix)
