"""Choose the device for torch, and move batches to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tcgn_mil.errors import InputError
from tcgn_mil.text import counted


def resolve_device(name: str) -> torch.device:
    """Return the device with a given name.

    Parameters
    ----------
    name
        ``auto``, or a name of torch such as ``cpu``, ``cuda``, ``cuda:1`` or ``mps``. ``auto`` is
        CUDA if there is a CUDA device, else MPS if there is one, else the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    InputError
        If the name is none of these, or the device is not available on this machine.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not index.isdecimal()):
        raise InputError(
            f"no device is named {name!r}", fix="choose auto, cpu, cuda, cuda:0 or mps"
        )
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available", fix="choose the device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError("no MPS device is available", fix="choose the device cpu")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if index and int(index) >= count:
        raise InputError(
            f"there is no device {name}: this machine has {counted(count, f'{kind} device')}",
            fix=f"choose {kind}:0" if count == 1 else f"choose {kind}:0 to {kind}:{count - 1}",
        )
    return torch.device(name)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move all tensors of a batch to a device.

    Parameters
    ----------
    batch
        A tensor, or a dataclass, tuple, named tuple or list that holds tensors at any depth.
    device
        The device.

    Returns
    -------
    Any
        The same structure. Values that are not tensors do not change.

    Examples
    --------
    >>> to_device([torch.ones(2), "name"], torch.device("cpu"))
    [tensor([1., 1.]), 'name']
    """
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Apply a function to all tensors of a structure.

    Parameters
    ----------
    value
        A tensor, or a dataclass, tuple, named tuple or list that holds tensors at any depth.
    function
        Called with each tensor.

    Returns
    -------
    Any
        The same structure with the results. Values that are not tensors do not change.
    """
    if isinstance(value, Tensor):
        return function(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        mapped = {
            item.name: map_tensors(getattr(value, item.name), function)
            for item in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **mapped)
    if isinstance(value, (tuple, list)):
        items = [map_tensors(item, function) for item in value]
        # A named tuple takes its values as separate arguments, a plain tuple as one list.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
