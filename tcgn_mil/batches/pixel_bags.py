"""Batches of bags of tile pixels: a sample of a patient's tiles over all of its slides."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcgn_mil.batches.loading import derive_seed, prefetch, sample_rows, split_order
from tcgn_mil.io.hdf5 import check_pixels
from tcgn_mil.types.tile_pixels import TileReader
from tcgn_mil.types.tiles import TileSet

_ORDER, _TILES, _FIXED = 0, 1, 2  # purposes of draws


@dataclass(frozen=True)
class PixelBatch:
    """Tiles of several patients.

    Attributes
    ----------
    pixels
        (B, K, P, P, 3) uint8 RGB, zero at padding.
    mask
        (B, K) bool, True at tiles and False at padding.
    targets
        (B, G) float32, NaN where unknown.
    """

    pixels: Tensor
    mask: Tensor
    targets: Tensor


class PixelBags:
    """Patients with the tiles of their slides, and targets. Pixels are read when needed.

    Parameters
    ----------
    patients
        Patient names, in the order of `targets`.
    tiles
        Tiles of each patient's slides.
    reader
        Reader of the pixels of a slide's tiles.
    targets
        (M, G) float32, standardised; NaN where unknown.
    seed
        Seed of the order and of the samples.
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
        """Read a sample of a patient's tiles, drawn without replacement.

        Parameters
        ----------
        patient
            Name of the patient.
        count
            Number of tiles; all of them if there are fewer.
        *draw
            Numbers that identify the draw. The same numbers give the same tiles.

        Returns
        -------
        (at most `count`, P, P, 3) pixels.
        """
        slides = self.tiles[patient]
        seed = derive_seed(self.seed, *draw, zlib.crc32(patient.encode()))
        rows = sample_rows([len(slide) for slide in slides], count, np.random.default_rng(seed))
        parts = [
            self._read(slide, chosen)
            for slide, chosen in zip(slides, rows, strict=True)
            if len(chosen)
        ]
        return np.concatenate(parts)

    def fixed_sample(self, patient: str, count: int) -> NDArray[np.uint8]:
        """Read a sample that is the same in every epoch, for validation."""
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
        """Return shuffled batches of `batch_size` patients with `tiles` tiles each.

        The same seed and epoch number give the same batches.
        """
        return EpochOfPixels(self, number, batch_size, tiles)


class EpochOfPixels:
    """Iterator over the batches of one epoch, with a length for progress bars.

    The next batch is read while one is used.
    """

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
            # (B, K, P, P, 3), padded to the patient with the most tiles
            pixels = np.zeros((len(read), max(map(len, read)), *read[0].shape[1:]), dtype=np.uint8)
            mask = np.zeros(pixels.shape[:2], dtype=np.bool_)
            for row, tiles in enumerate(read):
                pixels[row, : len(tiles)], mask[row, : len(tiles)] = tiles, True
            targets = np.ascontiguousarray(self.bags.targets[rows], dtype=np.float32)
            yield PixelBatch(
                torch.from_numpy(pixels), torch.from_numpy(mask), torch.from_numpy(targets)
            )
