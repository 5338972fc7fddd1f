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

from tcgn_mil.batches.loading import derive_seed, prefetch, split_order
from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import read_feature_info, read_features
from tcgn_mil.text import preview
from tcgn_mil.types.features import FeatureInfo
from tcgn_mil.types.tiles import stain_identity

KEPT_BYTES = 2**28
_ORDER, _TILES = 0, 1  # purposes of the draws of an epoch
_LEAST_SPREAD = (
    1e-4  # relative to the mean: less is rounding of float16 features, which must not be magnified
)


class Bag(NamedTuple):
    """Tiles of one patient: ``features`` (N, D) float32, ``coords`` (N, 2) level-0, ``slide_index`` (N,) by slide."""

    features: NDArray[np.float32]
    coords: NDArray[np.int64]
    slide_index: NDArray[np.int64]


@dataclass(frozen=True)
class BagBatch:
    """Padded bags.

    Attributes
    ----------
    features
        (B, Nmax, D) float32, zero at padding.
    mask
        (B, Nmax) bool, True at tiles.
    targets
        (B, G) float32, NaN where unknown; the losses leave those out.
    """

    features: Tensor
    mask: Tensor
    targets: Tensor


class SlideFeatures(NamedTuple):
    """A feature file and what it says of itself, so that an epoch opens each file once."""

    path: Path
    info: FeatureInfo


def open_slides(paths: Sequence[str | Path]) -> tuple[SlideFeatures, ...]:
    """Look at feature files and check that one encoder made them all; see :func:`check_same_encoder`."""
    infos = [read_feature_info(path) for path in paths]
    check_same_encoder(infos, paths)
    return tuple(SlideFeatures(Path(path), info) for path, info in zip(paths, infos, strict=True))


def check_same_encoder(infos: Sequence[FeatureInfo], paths: Sequence[str | Path]) -> FeatureInfo:
    """Raise InputError unless all files are by one encoder, of one width, tile size and stain; returns the first."""
    if not infos:
        raise InputError("no feature file is given", fix="run tcgn-mil encode first")
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
        if stain_identity(info.stain) != stain_identity(first.stain):
            raise InputError(
                f"stain normalisation {stain_identity(info.stain)}, but that of {Path(paths[0]).name} is"
                f" {stain_identity(first.stain)}",
                path=path,
                fix="tile and encode all slides of a cohort with one --stain and --stain-reference, or none",
            )
    return first


def read_bag(
    paths: Sequence[str | Path],
    *,
    max_tiles: int | None = None,
    generator: np.random.Generator | None = None,
) -> Bag:
    """Read the tiles of a patient's slides; with `max_tiles`, a sample without replacement over all of them.

    Raises
    ------
    InputError
        If there is no tile, a feature is not finite, or the files differ in width, encoder or tile size.
    """
    return _read_slides(open_slides(paths), max_tiles=max_tiles, generator=generator)


def _read_slides(
    slides: Sequence[SlideFeatures], *, max_tiles: int | None, generator: np.random.Generator | None
) -> Bag:
    counts = [slide.info.n_tiles for slide in slides]
    total = sum(counts)
    if total == 0:
        raise InputError(
            "the patient has no tile",
            path=slides[0].path,
            fix="check the slide's tissue in its overlay picture",
        )
    rows: Sequence[NDArray[np.int64] | None] = [None] * len(slides)
    if max_tiles is not None and total > max_tiles:
        rows = _sample(counts, max_tiles, generator or np.random.default_rng(0))
        counts = [len(chosen) for chosen in rows if chosen is not None]
    if len(slides) == 1:
        alone, places, _ = read_features(slides[0].path, rows[0])
        return Bag(alone, places, np.zeros(len(places), dtype=np.int64))
    features = np.empty((sum(counts), slides[0].info.width), dtype=np.float32)
    coords = np.empty((sum(counts), 2), dtype=np.int64)
    start = 0
    for slide, chosen, count in zip(slides, rows, counts, strict=True):
        if count:
            part = slice(start, start + count)
            features[part], coords[part], _ = read_features(slide.path, chosen)
        start += count
    return Bag(features, coords, np.repeat(np.arange(len(counts)), counts))


def _sample(
    counts: Sequence[int], max_tiles: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Rows of each slide, sorted, of a sample over all tiles."""
    chosen = _chosen(sum(counts), max_tiles, generator)
    starts = np.cumsum([0, *counts])
    cuts = np.split(chosen, np.searchsorted(chosen, starts[1:-1]))
    return [rows - start for rows, start in zip(cuts, starts[:-1], strict=True)]


def _chosen(count: int, max_tiles: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return np.sort(generator.choice(count, size=max_tiles, replace=False))


def collate(bags: Sequence[Bag], targets: NDArray[np.float32]) -> BagBatch:
    """Pad bags to the longest."""
    longest = max(len(bag.features) for bag in bags)
    features = torch.zeros(len(bags), longest, bags[0].features.shape[1])
    mask = torch.zeros(len(bags), longest, dtype=torch.bool)
    for row, bag in enumerate(bags):
        features[row, : len(bag.features)] = torch.from_numpy(bag.features)
        mask[row, : len(bag.features)] = True
    return BagBatch(
        features, mask, torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))
    )


class FeatureStatistics(NamedTuple):
    """Mean and standard deviation (D,) float32 of tiles; features that do not vary have standard deviation 1."""

    mean: Tensor
    std: Tensor


class BagDataset:
    """Patients with their feature files and targets; a batch of features is in memory, and the next while it is read.

    Parameters
    ----------
    patients
        Ids, in the order of `targets`.
    files
        Patient -> feature files of its slides; several slides are one bag.
    targets
        (M, G) float32 standardised, NaN where unknown.
    seed
        Of order and tile samples, 0 or more.
    kept_bytes
        Features kept in memory once read, at most; small cohorts are then read once, large ones gain nothing.

    Raises
    ------
    InputError
        If a patient has no feature file or no tile, or the files differ in width, encoder or tile size.
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
            raise ValueError(f"{len(patients)} patients, {len(targets)} rows of targets")
        without = [patient for patient in patients if not files.get(patient)]
        if without:
            raise InputError(
                f"no feature file for {preview(without)}",
                fix="encode their slides, or leave these patients out",
            )
        self.patients, self.targets, self.seed = tuple(patients), targets, seed
        opened = iter(open_slides([path for patient in self.patients for path in files[patient]]))
        self.slides = {
            patient: tuple(next(opened) for _ in files[patient]) for patient in self.patients
        }
        self._kept: dict[str, Bag] = {}
        self._room = kept_bytes
        for patient, slides in self.slides.items():
            if not sum(slide.info.n_tiles for slide in slides):
                raise InputError(
                    f"patient {patient} has no tile",
                    path=slides[0].path,
                    fix="check the slide's tissue in its overlay picture, or leave the patient out",
                )

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def in_memory(self) -> bool:
        """Whether all features were read and kept."""
        return len(self._kept) == len(self.patients)

    def bag(self, index: int) -> Bag:
        """All tiles of one patient."""
        return self.read(self.patients[index])

    def read(
        self,
        patient: str,
        *,
        max_tiles: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> Bag:
        """Tiles of one patient, all or a sample; from memory where they were kept, which changes nothing in them."""
        slides = self.slides[patient]
        if patient not in self._kept:
            size = sum(slide.info.n_tiles * (slide.info.width * 4 + 24) for slide in slides)
            if size > self._room:
                return _read_slides(slides, max_tiles=max_tiles, generator=generator)
            self._room -= size
            self._kept[patient] = _read_slides(slides, max_tiles=None, generator=None)
        bag = self._kept[patient]
        if max_tiles is None or len(bag.features) <= max_tiles:
            return bag
        rows = _chosen(len(bag.features), max_tiles, generator or np.random.default_rng(0))
        return Bag(bag.features[rows], bag.coords[rows], bag.slide_index[rows])

    def epoch(self, number: int, *, batch_size: int, max_tiles: int | None) -> EpochOfBags:
        """Shuffled batches with sampled tiles; the same for the same seed and number."""
        return EpochOfBags(self, number, batch_size, max_tiles)


def feature_statistics(dataset: BagDataset, *, max_tiles: int | None) -> FeatureStatistics:
    """Statistics of the tiles of a dataset (the training patients), each patient weighing the same.

    Reads one patient at a time, with `max_tiles` a sample of it.
    """
    mean = np.zeros(1)
    square = np.zeros(1)
    epoch = dataset.epoch(0, batch_size=1, max_tiles=max_tiles)
    for row in range(len(dataset)):
        tiles = epoch.bag(row).features.astype(np.float64)
        mean = mean + tiles.mean(axis=0) / len(dataset)
        square = square + np.square(tiles).mean(axis=0) / len(dataset)
    std = np.sqrt(np.maximum(square - np.square(mean), 0))
    std = np.where(std > _LEAST_SPREAD * np.maximum(np.abs(mean), 1e-3), std, 1.0)
    return FeatureStatistics(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


class EpochOfBags:
    """BagBatch after BagBatch of one epoch, with a length for progress."""

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
        with prefetch(
            self._collated(), depth=1
        ) as batches:  # the next is read while this one is learnt from
            yield from batches

    def _collated(self) -> Iterator[BagBatch]:
        for batch in self.batches:
            rows = batch.numpy()
            yield collate([self.bag(int(row)) for row in rows], self.dataset.targets[rows])

    def bag(self, row: int) -> Bag:
        """A patient's tiles of this epoch, the same whatever batch it comes to be in."""
        patient = self.dataset.patients[row]
        seed = derive_seed(self.dataset.seed, self.number, _TILES, zlib.crc32(patient.encode()))
        return self.dataset.read(
            patient, max_tiles=self.max_tiles, generator=np.random.default_rng(seed)
        )
