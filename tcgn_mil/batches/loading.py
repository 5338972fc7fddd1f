"""What comes when in an epoch: seeds for its draws, and its batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def derive_seed(*parts: int) -> int:
    """One seed from several non-negative numbers (seed, epoch, purpose), unrelated to that of any other numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def split_order(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into batches, keeping the last incomplete one.

    A last batch of one joins the batch before it, since BatchNorm cannot train on one sample; unless one is the size.
    """
    batches = list(order.split(batch_size))
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
