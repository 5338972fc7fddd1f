"""Use a CPU's memory well: few images at a time, and freed memory kept, but not without bound."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

CACHE_FLOATS = 2**20  # 4 MiB of float32, which the caches of common CPUs hold
# In bytes. glibc adapts its thresholds to freed blocks of at most 32 MiB, header included.
_MAX_ADAPTED_BLOCK = 2**25 - 2**16
_STATM = Path("/proc/self/statm")  # in pages: the size of this process, then its resident memory
# Resident memory may grow to this multiple of what one slide leaves.
_GROWTH = 1.1


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


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    """Return the function of glibc that gives freed memory back; None with another allocator."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if _STATM.is_file() else None


class FreedMemory:
    """Freed memory that glibc keeps for later allocations of this process.

    Batches of ever new sizes, such as the last ones of slides, ask for blocks of ever new sizes.
    These do not fit into the holes that earlier blocks have left, so that the memory of the process
    grows for dozens of slides, although all of it is free. To hand it back takes as long as the
    page faults of one batch. So this is done only when the memory has grown by a tenth. Other
    allocators than glibc's are not affected.
    """

    def __init__(self) -> None:
        self._usual = 0
        self._was_given_back = True

    def bound(self) -> bool:
        """Give the freed memory back to the system if it has grown; call this after each slide.

        Returns
        -------
        bool
            Whether it was given back.
        """
        trim = _malloc_trim()
        if trim is None:
            return False
        resident = int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if self._was_given_back:  # all that is resident now is of one slide
            self._usual = max(self._usual, resident)
        self._was_given_back = resident > _GROWTH * self._usual
        if self._was_given_back:
            trim(0)
        return self._was_given_back


FREED_MEMORY = FreedMemory()
"""The one of this process."""
