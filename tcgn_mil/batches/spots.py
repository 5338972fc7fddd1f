"""Batches of spot patches with their targets, shuffled and augmented for each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcgn_mil.batches.augment import augment
from tcgn_mil.batches.loading import derive_seed, prefetch, split_order
from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.io.spot_files import read_patches
from tcgn_mil.settings.augmentation import AugmentConfig

MAX_BYTES_IN_MEMORY = 4 * 2**30  # 114,000 patches of 112 px
_AHEAD = 2  # batches that are made while the network works on one
_ORDER, _AUGMENTATION = 0, 1  # purposes of the draws of an epoch


class Patches(Protocol):
    """Patches (S, P, P, 3) uint8 in memory or on disk: an array, or :class:`PatchesOnDisk`."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]: ...


class SectionRows(NamedTuple):
    """Patch file of a section, and the rows (S,) of it that are used, ascending and unique."""

    path: str | Path
    rows: NDArray[np.int64]


class PatchesOnDisk:
    """Patches of several sections, one after the other, that are read a batch at a time."""

    def __init__(self, sections: Sequence[SectionRows]) -> None:
        self.sections = tuple(sections)
        self.starts = np.cumsum([0, *(len(section.rows) for section in self.sections)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, rows: NDArray[np.int64], /) -> NDArray[np.uint8]:
        """Read patches in the order of `rows`, which may repeat."""
        rows = np.asarray(rows)
        section_of = np.searchsorted(self.starts, rows, side="right") - 1
        out: NDArray[np.uint8] | None = None
        for index in np.unique(section_of):
            section, places = self.sections[index], np.flatnonzero(section_of == index)
            with open_hdf5(section.path, kind="patch", needs=("img",)) as file:
                images = file["img"]
                if out is None:
                    out = np.empty((len(rows), *images.shape[1:]), dtype=np.uint8)
                # One row at a time: h5py takes eighty times as long for a list of rows.
                for place, row in zip(
                    places, section.rows[rows[places] - self.starts[index]], strict=True
                ):
                    images.read_direct(out, np.s_[row], np.s_[place])
        assert out is not None, "no row was asked for"
        return out


def load_patches(
    sections: Sequence[SectionRows], *, max_bytes: int = MAX_BYTES_IN_MEMORY
) -> Patches:
    """Load the patches of several sections into memory, or leave them on disk if they are large.

    Parameters
    ----------
    sections
        Patch files and the rows that are used.
    max_bytes
        Largest size in memory.

    Raises
    ------
    InputError
        If a patch file cannot be read, no spot is left, or sections have patches of different
        sizes.
    """
    patches = PatchesOnDisk([section for section in sections if len(section.rows)])
    if not len(patches):
        raise InputError("no spot is left to train on", fix="lower min_umi, or use more sections")
    shape = _patch_shape(patches.sections)
    if len(patches) * int(np.prod(shape)) > max_bytes:
        return patches
    return patches[np.arange(len(patches))]


def _patch_shape(sections: Sequence[SectionRows]) -> tuple[int, ...]:
    """Return the shape (P, P, 3) of a patch, which must be the same in all sections."""
    shapes = [read_patches(section.path, section.rows[:1]).shape[1:] for section in sections]
    for section, shape in zip(sections, shapes, strict=True):
        if shape != shapes[0]:
            raise InputError(
                f"patches are {shape[0]} px wide, but those of {Path(sections[0].path).name} are"
                f" {shapes[0][0]} px",
                path=section.path,
                fix="run tcgn-mil spots with one patch size for all sections",
            )
    return shapes[0]


class SpotBatches:
    """Training spots, served in batches.

    Parameters
    ----------
    patches
        (S, P, P, 3) uint8, in memory or on disk (:func:`load_patches`).
    targets
        (S, G) float32, standardised; NaN where unknown.
    batch_size
        Spots per batch. A last batch of one spot joins the batch before it, since batch
        normalisation cannot train on one image.
    seed
        Seed of the order and of the augmentation.
    augment
        Augmentation; None for none.
    """

    def __init__(
        self,
        patches: Patches,
        targets: NDArray[np.float32],
        *,
        batch_size: int,
        seed: int,
        augment: AugmentConfig | None = None,
    ) -> None:
        if len(patches) != len(targets):
            raise ValueError(f"{len(patches)} patches, but {len(targets)} targets")
        self.patches, self.targets = patches, targets
        self.batch_size, self.seed, self.augment = batch_size, seed, augment

    def epoch(self, number: int) -> EpochOfSpots:
        """Return the batches of one epoch. The same seed and number give the same batches."""
        return EpochOfSpots(self, number)


class EpochOfSpots:
    """Iterator over the batches of one epoch, with a length for progress bars.

    A batch is a pair of patches (B, P, P, 3) uint8 and targets (B, G) float32. A thread prepares
    the batches ahead of their use.
    """

    def __init__(self, spots: SpotBatches, number: int) -> None:
        self.spots, self.number = spots, number
        generator = torch.Generator().manual_seed(derive_seed(spots.seed, number, _ORDER))
        self.batches = split_order(
            torch.randperm(len(spots.patches), generator=generator), spots.batch_size
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        with prefetch(self._prepare(), depth=_AHEAD) as batches:
            yield from batches

    def _prepare(self) -> Iterator[tuple[Tensor, Tensor]]:
        # One batch after the other, never in parallel, since they draw from one generator.
        spots = self.spots
        generator = torch.Generator().manual_seed(
            derive_seed(spots.seed, self.number, _AUGMENTATION)
        )
        for batch in self.batches:
            rows = batch.numpy()
            patches = torch.from_numpy(spots.patches[rows])
            if spots.augment is not None:
                patches = augment(patches, generator, spots.augment)
            yield patches, torch.from_numpy(np.asarray(spots.targets[rows], dtype=np.float32))
