"""Memory on a CPU: a few images at a time while their maps stay in cache, and freed memory kept for the next pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CACHE_FLOATS = 2**20
_LARGEST_ADAPTED_BLOCK = (
    2**25 - 2**16
)  # bytes; glibc adapts to freed blocks of at most 32 MB, its header included


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


def keep_freed_memory() -> None:
    """Let glibc keep up to 64 MB of freed memory for what is allocated next, for this process.

    glibc hands freed memory back to the system above thresholds that grow with the blocks that a process has freed. A
    network of small maps leaves them low, and then pays for every map in page faults, which took as long as all its
    arithmetic (batch 8, float32). One large block, freed untouched, raises them. Other allocators are not affected.
    """
    torch.empty(_LARGEST_ADAPTED_BLOCK, dtype=torch.uint8, device="cpu")
