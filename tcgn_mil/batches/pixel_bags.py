"""Bags of tile pixels: a seeded sample of a patient's tiles over all of its slides, read when needed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcgn_mil.batches.loading import derive_seed, prefetch, split_order
from tcgn_mil.io.hdf5 import check_pixels
from tcgn_mil.types.tile_pixels import TileReader
from tcgn_mil.types.tiles import TileSet

_ORDER, _TILES, _FIXED = 0, 1, 2  # purposes of draws


@dataclass(frozen=True)
class PixelBatch:
    """``pixels`` (B, K, P, P, 3) uint8, ``mask`` (B, K) True at tiles, ``targets`` (B, G) NaN where unknown."""

    pixels: Tensor
    mask: Tensor
    targets: Tensor


class PixelBags:
    """Patients with the tiles of their slides, and targets.

    Parameters
    ----------
    patients
        Ids, in the order of `targets`.
    tiles
        Patient -> tiles of its slides.
    reader
        Reads the tiles of a slide in batches of pixels.
    targets
        (M, G) standardised.
    seed
        Of order and samples.
    """

    def __init__(
        self,
        patients: Sequence[str],
        tiles: Mapping[str, Sequence[TileSet]],
        reader: TileReader,
        targets: NDArray[np.float32],
        *,
        seed: int,
    ) -> None:
        self.patients, self.targets, self.seed = tuple(patients), targets, seed
        self.tiles = {patient: tuple(tiles[patient]) for patient in self.patients}
        self.reader = reader

    def sample(self, patient: str, count: int, *draw: int) -> NDArray[np.uint8]:
        """(at most `count`, P, P, 3) tiles of a patient without replacement, the same for the same `draw`."""
        slides = self.tiles[patient]
        counts = [len(slide) for slide in slides]
        seed = derive_seed(self.seed, *draw, zlib.crc32(patient.encode()))
        rows = np.random.default_rng(seed).choice(
            sum(counts), size=min(count, sum(counts)), replace=False
        )
        cuts = np.split(np.sort(rows), np.searchsorted(np.sort(rows), np.cumsum(counts)[:-1]))
        starts = np.cumsum([0, *counts[:-1]])
        parts = [
            self._read(slide, chosen - start)
            for slide, chosen, start in zip(slides, cuts, starts, strict=True)
            if len(chosen)
        ]
        return np.concatenate(parts)

    def fixed_sample(self, patient: str, count: int) -> NDArray[np.uint8]:
        """The same in every epoch, to judge by."""
        return self.sample(patient, count, _FIXED)

    def _read(self, slide: TileSet, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        with self.reader.open(slide.select(rows), len(rows)) as batches:
            read = [(pixels, coords) for pixels, coords in batches]
        for pixels, coords in read:
            check_pixels(
                pixels, [f"tile {x}, {y} of slide {slide.slide_id}" for x, y in coords.tolist()]
            )
        return np.concatenate([pixels for pixels, _ in read])

    def epoch(self, number: int, *, batch_size: int, tiles: int) -> EpochOfPixels:
        """Shuffled batches of patients with `tiles` tiles each; the same for the same seed and number."""
        return EpochOfPixels(self, number, batch_size, tiles)


class EpochOfPixels:
    """PixelBatch after PixelBatch, read one ahead, with a length for progress."""

    def __init__(self, bags: PixelBags, number: int, batch_size: int, tiles: int) -> None:
        self.bags, self.number, self.tiles = bags, number, tiles
        generator = torch.Generator().manual_seed(derive_seed(bags.seed, number, _ORDER))
        self.batches = split_order(
            torch.randperm(len(bags.patients), generator=generator), batch_size
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PixelBatch]:
        with prefetch(self._batches(), depth=1) as batches:
            yield from batches

    def _batches(self) -> Iterator[PixelBatch]:
        for batch in self.batches:
            rows = batch.numpy()
            read = [
                self.bags.sample(self.bags.patients[row], self.tiles, self.number, _TILES)
                for row in rows.tolist()
            ]
            pixels = np.zeros((len(read), max(map(len, read)), *read[0].shape[1:]), dtype=np.uint8)
            mask = np.zeros(pixels.shape[:2], dtype=np.bool_)
            for row, tiles in enumerate(read):
                pixels[row, : len(tiles)], mask[row, : len(tiles)] = tiles, True
            targets = np.ascontiguousarray(self.bags.targets[rows], dtype=np.float32)
            yield PixelBatch(
                torch.from_numpy(pixels), torch.from_numpy(mask), torch.from_numpy(targets)
            )
