"""Activation checkpointing that does not update batch normalisation twice.

Checkpointing saves memory in training: a module keeps its inputs alone, and the backward pass runs
the forward pass again to obtain the activations. In torch, this second pass would update the
running mean and variance of batch normalisation once more, with the same batch. Here it does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def call(module: nn.Module, *inputs: Any) -> Tensor:
    """Call the module without checkpointing; the counterpart of :func:`checkpointed`."""
    return module(*inputs)


def checkpointed(module: nn.Module, *inputs: Any) -> Tensor:
    """Call the module and keep its inputs alone; the backward pass computes the rest again."""
    contexts = partial(_contexts, module)
    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


def _contexts(
    module: nn.Module,
) -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
    """Return the contexts of the first forward pass and of the second one."""
    return contextlib.nullcontext(), _frozen_statistics(module)


@contextlib.contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    # The modules stay in training mode, so that the second pass normalises by the batch as the
    # first one did. A momentum of zero leaves the running statistics as they are, and without a
    # counter torch does not count the batch again.
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
