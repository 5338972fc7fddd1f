"""Batches of spot patches with their targets, shuffled and augmented by (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcgn_mil.data.transforms import AugmentConfig, augment


class SpotBatches:
    """Training spots held as uint8, served as batches.

    Parameters
    ----------
    patches
        (S, P, P, 3) uint8; at 112 px, 10,000 spots take 376 MB.
    targets
        (S, G) float32, standardised.
    batch_size
        Spots a batch; a last batch of one is joined to the one before, since BatchNorm cannot train on it.
    seed
        Of order and augmentation.
    augment
        None for none.
    """

    def __init__(
        self,
        patches: NDArray[np.uint8],
        targets: NDArray[np.float32],
        *,
        batch_size: int,
        seed: int,
        augment: AugmentConfig | None = None,
    ) -> None:
        if len(patches) != len(targets):
            raise ValueError(f"{len(patches)} patches, {len(targets)} targets")
        self.patches = torch.from_numpy(np.ascontiguousarray(patches))
        self.targets = torch.from_numpy(np.ascontiguousarray(targets))
        self.batch_size, self.seed, self.augment = batch_size, seed, augment

    def epoch(self, number: int) -> EpochOfSpots:
        """The batches of one epoch; the same for the same seed and number."""
        return EpochOfSpots(self, number)


class EpochOfSpots:
    """Batches (patches (B, P, P, 3) uint8, targets (B, G) float32) of one epoch, with a length for progress."""

    def __init__(self, spots: SpotBatches, number: int) -> None:
        self.spots = spots
        self.seed = spots.seed * 1_000_003 + number
        order = torch.randperm(len(spots.patches), generator=torch.Generator().manual_seed(self.seed))
        self.batches = split_order(order, spots.batch_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed + 1)
        for rows in self.batches:
            patches = self.spots.patches[rows]
            if self.spots.augment is not None:
                patches = augment(patches, generator, self.spots.augment)
            yield patches, self.spots.targets[rows]


def split_order(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut an order into batches; a last batch of one joins the one before it."""
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
