"""Share the images of a batch among the cores of a CPU, one thread for each core.

A network of small maps has thousands of short operations. If all cores work on each of them, they
wait for one another after every one. If each core has images of its own, they do not wait at all.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def in_threads(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply a function to a batch, to a part of its images on each core.

    The function must treat each image by itself. On a GPU, under compilation or autocast, if
    gradients are needed, and where torch may use one core only, it is applied to the whole batch.

    Parameters
    ----------
    function
        Maps (B, ...) to (B, ...).
    images
        (B, ...).
    """
    if (
        torch.compiler.is_compiling()
        or images.device.type != "cpu"
        or torch.is_grad_enabled()
        or torch.is_autocast_enabled("cpu")
    ):
        return function(images)
    cores = min(torch.get_num_threads(), len(images))
    if cores < 2:
        return function(images)
    inference = torch.is_inference_mode_enabled()

    def apply(part: Tensor) -> Tensor:
        # Both modes belong to a thread.
        with torch.no_grad(), torch.inference_mode(inference):
            return function(part)

    return torch.cat(list(_pool(torch.get_num_threads()).map(apply, images.tensor_split(cores))))


@functools.cache
def _pool(cores: int) -> ThreadPoolExecutor:
    """Return threads in each of which torch uses one core."""
    pool = ThreadPoolExecutor(cores, thread_name_prefix="images")
    started = threading.Barrier(cores)

    def use_one_core(_: int) -> None:
        torch.get_num_threads()  # from here on, torch keeps the number for this thread
        started.wait()  # so that each thread runs this once
        torch.set_num_threads(1)

    list(pool.map(use_one_core, range(cores)))
    # The number that was set last is also the one with which later threads start.
    torch.set_num_threads(cores)
    return pool


if hasattr(os, "register_at_fork"):
    # A process that is forked from this one has none of its threads.
    os.register_at_fork(after_in_child=_pool.cache_clear)
