"""Use a CPU's memory well: few images at a time, and freed memory kept for the next pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CACHE_FLOATS = 2**20  # 4 MiB of float32, which the caches of common CPUs hold
# In bytes. glibc adapts its thresholds to freed blocks of at most 32 MiB, header included.
_MAX_ADAPTED_BLOCK = 2**25 - 2**16


def in_cache(function: Callable[[Tensor], Tensor], images: Tensor, floats_per_image: int) -> Tensor:
    """Apply a function to a batch, to as many images at a time as fit into a CPU's cache.

    The function must treat each image by itself. On a GPU, under compilation and if gradients are
    needed, it is applied to the whole batch at once.

    Parameters
    ----------
    function
        Maps (B, ...) to (B, ...).
    images
        (B, ...).
    floats_per_image
        Number of values in the largest intermediate result of one image.
    """
    if torch.is_grad_enabled() or images.is_cuda or torch.compiler.is_compiling():
        return function(images)
    parts = [function(part) for part in images.split(max(1, CACHE_FLOATS // floats_per_image))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def keep_freed_memory() -> None:
    """Let glibc keep up to 64 MiB of freed memory in this process for later allocations.

    Above a threshold, glibc hands freed memory back to the system. The threshold grows with the
    blocks that a process has freed. A network of small maps leaves it low and then pays for every
    map in page faults, which took as long as all its arithmetic (batch of 8 images, float32). One
    large block, freed without being touched, raises the threshold. Other allocators are not
    affected.
    """
    torch.empty(_MAX_ADAPTED_BLOCK, dtype=torch.uint8, device="cpu")
