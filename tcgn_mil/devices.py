"""Choose the device for torch, and move batches to it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from tcgn_mil.errors import InputError


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
        If there is no such device on this machine, or torch knows no device of this name.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"{name!r} is no name of a device", fix="choose auto, cpu, cuda, cuda:0 or mps"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available", fix="choose the device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"there is no device {name}, only {torch.cuda.device_count()} CUDA devices",
            fix="choose cuda:0 or another one that exists",
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("no MPS device is available", fix="choose the device cpu")
    return device


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
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        moved = {
            item.name: to_device(getattr(batch, item.name), device)
            for item in dataclasses.fields(batch)
        }
        return dataclasses.replace(batch, **moved)
    if isinstance(batch, (tuple, list)):
        moved_items = [to_device(item, device) for item in batch]
        # A named tuple takes its values as separate arguments, a plain tuple as one list.
        return type(batch)(*moved_items) if hasattr(batch, "_fields") else type(batch)(moved_items)
    return batch
