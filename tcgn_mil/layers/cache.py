"""A few images at a time: inference on a CPU is fastest while intermediate maps stay in cache."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CACHE_FLOATS = 2**20


def in_cache(function: Callable[[Tensor], Tensor], images: Tensor, floats_per_image: int) -> Tensor:
    """Apply a function that treats each image by itself, to as many images at a time as fit a cache.

    With gradients, on a GPU and under compilation, to all of them at once.

    Parameters
    ----------
    function
        Maps (B, ...) to (B, ...).
    images
        (B, ...).
    floats_per_image
        Size of the largest intermediate result of one image.
    """
    if torch.is_grad_enabled() or images.is_cuda or torch.compiler.is_compiling():
        return function(images)
    parts = [function(part) for part in images.split(max(1, CACHE_FLOATS // floats_per_image))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
