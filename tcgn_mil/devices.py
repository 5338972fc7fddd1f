"""One readable training loop for spots and bags, on Lightning Fabric (device, precision).

The loop knows neither: it is given what a step computes, the batches of an epoch, and a validation score. After every
epoch its whole state is written (:mod:`tcgn_mil.training.state`), and each epoch draws from its own seed, so that a
run killed at any point and started again ends with the same weights.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from tcgn_mil.errors import InputError


def to_device(batch: Any, device: torch.device) -> Any:
    """Move tensors within tuples, lists and dataclasses."""
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
        return type(batch)(*moved_items) if hasattr(batch, "_fields") else type(batch)(moved_items)
    return batch


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, then MPS, else the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is available", fix="choose the device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise InputError("no MPS device is available", fix="choose the device cpu")
    return torch.device(name)
