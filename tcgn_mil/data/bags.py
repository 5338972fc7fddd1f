"""Bags: all tiles of a patient's slides, read when needed, sampled by (seed, epoch, patient), padded into batches."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcgn_mil.data.feature_files import FeatureInfo, read_feature_info, read_features
from tcgn_mil.data.spots import split_order
from tcgn_mil.errors import InputError


class Bag(NamedTuple):
    """Tiles of one patient: ``features`` (N, D) float32, ``coords`` (N, 2) level-0, ``slide_index`` (N,) by slide."""

    features: NDArray[np.float32]
    coords: NDArray[np.int64]
    slide_index: NDArray[np.int64]


@dataclass(frozen=True)
class BagBatch:
    """Padded bags: ``features`` (B, Nmax, D), ``mask`` (B, Nmax) bool, True at tiles, ``targets`` (B, G), NaN unknown."""

    features: Tensor
    mask: Tensor
    targets: Tensor


def read_bag(
    paths: Sequence[str | Path], *, max_tiles: int | None = None, generator: np.random.Generator | None = None
) -> Bag:
    """Read the tiles of a patient's slides; with `max_tiles`, a sample without replacement over all of them.

    Raises
    ------
    InputError
        If there is no tile, or the files differ in width or encoder.
    """
    infos = [read_feature_info(path) for path in paths]
    check_same_encoder(infos, paths)
    counts = np.array([info.n_tiles for info in infos])
    total = int(counts.sum())
    if total == 0:
        raise InputError(
            "the patient has no tile", path=paths[0] if paths else None, fix="check the slide's tissue in its overlay"
        )
    rows: list[NDArray[np.int64] | None] = [None] * len(infos)
    if max_tiles is not None and total > max_tiles:
        generator = generator or np.random.default_rng(0)
        chosen = np.sort(generator.choice(total, size=max_tiles, replace=False))
        starts = np.concatenate([[0], np.cumsum(counts)])
        rows = [chosen[(chosen >= a) & (chosen < b)] - a for a, b in zip(starts[:-1], starts[1:], strict=True)]
    parts = [read_features(path, chosen) for path, chosen in zip(paths, rows, strict=True)]
    return Bag(
        np.concatenate([features for features, _, _ in parts]),
        np.concatenate([coords for _, coords, _ in parts]),
        np.repeat(np.arange(len(parts)), [len(features) for features, _, _ in parts]),
    )


def check_same_encoder(infos: Sequence[FeatureInfo], paths: Sequence[str | Path]) -> FeatureInfo:
    """Raise InputError unless all files are by one encoder, of one width and one tile size; returns the first."""
    first = infos[0]
    for info, path in zip(infos, paths, strict=True):
        if (info.encoder, info.width) != (first.encoder, first.width):
            raise InputError(
                f"features of {info.encoder} ({info.width} wide), but those of {Path(paths[0]).name} are of"
                f" {first.encoder} ({first.width} wide)",
                path=path,
                fix="encode all slides of a cohort with one encoder",
            )
        if not info.patch.matches(first.patch):
            raise InputError(
                f"tiles of {info.patch}, but those of {Path(paths[0]).name} are {first.patch}",
                path=path,
                fix="tile all slides of a cohort at one size",
            )
    return first


def collate(bags: Sequence[Bag], targets: NDArray[np.float32]) -> BagBatch:
    """Pad bags to the longest."""
    longest = max(len(bag.features) for bag in bags)
    features = torch.zeros(len(bags), longest, bags[0].features.shape[1])
    mask = torch.zeros(len(bags), longest, dtype=torch.bool)
    for row, bag in enumerate(bags):
        features[row, : len(bag.features)] = torch.from_numpy(bag.features)
        mask[row, : len(bag.features)] = True
    return BagBatch(features, mask, torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32)))


class BagDataset:
    """Patients with their feature files and targets; at most one batch of features is in memory.

    Parameters
    ----------
    patients
        Ids, in the order of `targets`.
    files
        Patient -> feature files of its slides.
    targets
        (M, G) float32 standardised, NaN where unknown.
    seed
        Of order and tile samples.
    """

    def __init__(
        self,
        patients: Sequence[str],
        files: Mapping[str, Sequence[Path]],
        targets: NDArray[np.float32],
        *,
        seed: int,
    ) -> None:
        self.patients, self.files, self.targets, self.seed = tuple(patients), files, targets, seed

    def __len__(self) -> int:
        return len(self.patients)

    def bag(self, index: int) -> Bag:
        """All tiles of one patient."""
        return read_bag(self.files[self.patients[index]])

    def epoch(self, number: int, *, batch_size: int, max_tiles: int | None) -> EpochOfBags:
        """Shuffled batches with sampled tiles; the same for the same seed and number."""
        return EpochOfBags(self, number, batch_size, max_tiles)


class EpochOfBags:
    """BagBatch after BagBatch of one epoch, with a length for progress."""

    def __init__(self, dataset: BagDataset, number: int, batch_size: int, max_tiles: int | None) -> None:
        self.dataset, self.number, self.max_tiles = dataset, number, max_tiles
        generator = torch.Generator().manual_seed(dataset.seed * 1_000_003 + number)
        self.batches = split_order(torch.randperm(len(dataset), generator=generator), batch_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[BagBatch]:
        for rows in self.batches:
            bags = [self._bag(int(row)) for row in rows]
            yield collate(bags, self.dataset.targets[rows.numpy()])

    def _bag(self, row: int) -> Bag:
        patient = self.dataset.patients[row]
        seed = [self.dataset.seed, self.number, zlib.crc32(patient.encode())]
        return read_bag(self.dataset.files[patient], max_tiles=self.max_tiles, generator=np.random.default_rng(seed))
