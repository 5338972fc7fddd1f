"""Batches of bags of tile features, sampled for each patient and padded to one length."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcgn_mil.batches.bag_files import Bag, FeatureFile, open_slides, read_slides
from tcgn_mil.batches.loading import derive_seed, prefetch, sample_rows, split_order
from tcgn_mil.errors import InputError
from tcgn_mil.text import preview

KEPT_BYTES = 2**28
_ORDER, _TILES = 0, 1  # purposes of the draws of an epoch
# Relative to the mean. A smaller standard deviation is rounding of float16 features, which
# standardisation must not magnify.
_MIN_RELATIVE_SD = 1e-4


@dataclass(frozen=True)
class BagBatch:
    """Bags of several patients, padded to the longest one.

    Attributes
    ----------
    features
        (B, N, D) float32, or float16 if all files store it; zero at padding.
    mask
        (B, N) bool, True at tiles and False at padding.
    targets
        (B, G) float32, NaN where unknown; the losses leave these out.
    """

    features: Tensor
    mask: Tensor
    targets: Tensor


def collate(bags: Sequence[Bag], targets: NDArray[np.float32]) -> BagBatch:
    """Pad bags to the longest one, beside their targets (B, G)."""
    longest = max(len(bag.features) for bag in bags)
    # Allocated by NumPy, which asks for huge pages: mapping small ones took longer than copying.
    features = np.empty(
        (len(bags), longest, bags[0].features.shape[1]),
        np.result_type(*(bag.features for bag in bags)),
    )
    mask = np.zeros((len(bags), longest), dtype=bool)
    for row, bag in enumerate(bags):
        features[row, : len(bag.features)] = bag.features
        features[row, len(bag.features) :] = 0
        mask[row, : len(bag.features)] = True
    labels = np.ascontiguousarray(targets, dtype=np.float32)
    return BagBatch(torch.from_numpy(features), torch.from_numpy(mask), torch.from_numpy(labels))


class BagDataset:
    """Patients with their feature files and targets.

    Features are read when they are needed. One batch is in memory while the next one is read.

    Parameters
    ----------
    patients
        Patient names, in the order of `targets`.
    files
        Feature files of each patient's slides. The slides of a patient are one bag.
    targets
        (M, G) float32, standardised; NaN where unknown.
    seed
        Seed of the order and of the samples of tiles, at least 0.
    kept_bytes
        Largest size of features that are kept in memory once they were read. A small cohort is
        then read once; for a large one this makes no difference.

    Raises
    ------
    InputError
        If a patient has no feature file or no tile, or the files differ in width, encoder, tile
        size or stain normalisation.
    """

    def __init__(
        self,
        patients: Sequence[str],
        files: Mapping[str, Sequence[str | Path]],
        targets: NDArray[np.float32],
        *,
        seed: int,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        if len(patients) != len(targets):
            raise ValueError(f"{len(patients)} patients, but {len(targets)} rows of targets")
        without = [patient for patient in patients if not files.get(patient)]
        if without:
            raise InputError(
                f"there is no feature file for {preview(without)}",
                fix="encode the slides of these patients, or remove the patients",
            )
        self.patients, self.targets, self.seed = tuple(patients), targets, seed
        opened = iter(open_slides([path for patient in self.patients for path in files[patient]]))
        self.slides = {
            patient: tuple(next(opened) for _ in files[patient]) for patient in self.patients
        }
        self._transform: Callable[[NDArray[Any]], NDArray[np.float32]] | None = None
        self._kept: dict[str, Bag] = {}
        self._kept_bytes = self._room = kept_bytes
        for patient, slides in self.slides.items():
            if not sum(slide.info.n_tiles for slide in slides):
                raise InputError(
                    f"patient {patient} has no tile",
                    path=slides[0].path,
                    fix="check the tissue of the slide in its overlay picture, or remove the"
                    " patient",
                )

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def in_memory(self) -> bool:
        """Return whether the features of all patients were read and kept."""
        return len(self._kept) == len(self.patients)

    def transformed(self, transform: Callable[[NDArray[Any]], NDArray[np.float32]]) -> BagDataset:
        """Return the same bags with other features, which are kept in memory in that form.

        Parameters
        ----------
        transform
            Maps features (N, D) to as many features, each tile by itself.
        """
        other = copy.copy(self)
        other._transform, other._kept, other._room = transform, {}, self._kept_bytes
        return other

    def bag(self, index: int) -> Bag:
        """Return all tiles of one patient."""
        return self.read(self.patients[index])

    def read(
        self,
        patient: str,
        *,
        max_tiles: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> Bag:
        """Return the tiles of one patient, all of them or a sample of `max_tiles`.

        The result is the same whether it comes from memory or from the files.
        """
        slides = self.slides[patient]
        if patient not in self._kept:
            # Features are at most 4 bytes per value; coordinates and slide index are three int64
            # per tile.
            size = sum(slide.info.n_tiles * (slide.info.width * 4 + 24) for slide in slides)
            if size > self._room:
                return self._read(slides, max_tiles, generator)
            self._room -= size
            self._kept[patient] = self._read(slides, None, None)
        bag = self._kept[patient]
        if max_tiles is None or len(bag.features) <= max_tiles:
            return bag
        generator = generator or np.random.default_rng(0)
        return bag.select(sample_rows([len(bag.features)], max_tiles, generator)[0])

    def _read(
        self,
        slides: Sequence[FeatureFile],
        max_tiles: int | None,
        generator: np.random.Generator | None,
    ) -> Bag:
        bag = read_slides(slides, max_tiles=max_tiles, generator=generator)
        if self._transform is None:
            return bag
        return bag._replace(features=self._transform(bag.features))

    def epoch(self, number: int, *, batch_size: int, max_tiles: int | None) -> EpochOfBags:
        """Return shuffled batches with sampled tiles.

        Parameters
        ----------
        number
            Number of the epoch. The same seed and number give the same batches.
        batch_size
            Patients per batch.
        max_tiles
            Tiles sampled per patient; None takes all.
        """
        return EpochOfBags(self, number, batch_size, max_tiles)


class EpochOfBags:
    """Iterator over the batches of one epoch, with a length for progress bars."""

    def __init__(
        self, dataset: BagDataset, number: int, batch_size: int, max_tiles: int | None
    ) -> None:
        if max_tiles is not None and max_tiles < 1:
            raise InputError(
                f"max_tiles is {max_tiles}",
                fix="give at least 1; some hundreds or thousands are usual",
            )
        self.dataset, self.number, self.max_tiles = dataset, number, max_tiles
        generator = torch.Generator().manual_seed(derive_seed(dataset.seed, number, _ORDER))
        self.batches = split_order(torch.randperm(len(dataset), generator=generator), batch_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[BagBatch]:
        if self.dataset.in_memory:
            yield from self._collated()
            return
        # The next batch is read while the model learns from this one.
        with prefetch(self._collated(), depth=1) as batches:
            yield from batches

    def _collated(self) -> Iterator[BagBatch]:
        for batch in self.batches:
            rows = batch.numpy()
            yield collate([self.bag(int(row)) for row in rows], self.dataset.targets[rows])

    def bag(self, row: int) -> Bag:
        """Return the tiles of a patient in this epoch.

        The sample depends on the patient's name, not on the batch that the patient is in.
        """
        patient = self.dataset.patients[row]
        seed = derive_seed(self.dataset.seed, self.number, _TILES, zlib.crc32(patient.encode()))
        return self.dataset.read(
            patient, max_tiles=self.max_tiles, generator=np.random.default_rng(seed)
        )


class FeatureStatistics(NamedTuple):
    """Mean and standard deviation of tile features, (D,) float32 each.

    Features that do not vary have a standard deviation of 1.
    """

    mean: Tensor
    std: Tensor


def feature_statistics(dataset: BagDataset, *, max_tiles: int | None) -> FeatureStatistics:
    """Compute mean and standard deviation of the tiles of a dataset (the training patients).

    Each patient has the same weight, whatever its number of tiles. Patients are read one at a time,
    with a sample of `max_tiles` tiles if this is not None. A missing value (NaN) is left out, and a
    feature without any value has mean 0 and standard deviation 1.
    """
    mean = np.zeros(1)
    square = np.zeros(1)
    unknown = np.zeros(1)  # for each feature, the share of patients without a value
    epoch = dataset.epoch(0, batch_size=1, max_tiles=max_tiles)
    for row in range(len(dataset)):
        tiles = epoch.bag(row).features.astype(np.float64)
        of_patient = tiles.mean(axis=0)
        square_of_patient = np.square(tiles).mean(axis=0)
        if np.isnan(of_patient).any():
            known = ~np.isnan(tiles)
            count = np.maximum(known.sum(axis=0), 1)
            of_patient = np.where(known, tiles, 0).sum(axis=0) / count
            square_of_patient = np.square(np.where(known, tiles, 0)).sum(axis=0) / count
            unknown = unknown + ~known.any(axis=0) / len(dataset)
        mean = mean + of_patient / len(dataset)
        square = square + square_of_patient / len(dataset)
    # The sums hold 0 for a patient without a value. Where no value is missing, the divisor is 1.
    share_known = np.maximum(1 - unknown, 1 / len(dataset))
    mean, square = mean / share_known, square / share_known
    std = np.sqrt(np.maximum(square - np.square(mean), 0))
    std = np.where(std > _MIN_RELATIVE_SD * np.maximum(np.abs(mean), 1e-3), std, 1.0)
    return FeatureStatistics(torch.from_numpy(mean).float(), torch.from_numpy(std).float())
