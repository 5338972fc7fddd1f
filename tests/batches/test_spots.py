"""Batches of spots are repeatable, complete, and the same from memory and from disk."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from tcgn_mil.batches.augment import augment
from tcgn_mil.batches.loading import derive_seed, split_order
from tcgn_mil.batches.spots import PatchesOnDisk, SectionRows, SpotBatches, load_patches
from tcgn_mil.errors import InputError
from tcgn_mil.io.spot_files import create_patch_file
from tcgn_mil.settings.augmentation import AugmentConfig
from tcgn_mil.types.tile_geometry import PatchSize

PX = 8


def section(folder: Path, name: str, first: int, spots: int, px: int = PX) -> Path:
    """Write a patch file whose i-th patch has the value first + i everywhere."""
    path = folder / f"{name}_patches.h5"
    barcodes = [f"{i}x{i}" for i in range(spots)]
    with create_patch_file(
        path, barcodes, PatchSize(px, 0.69), section=name, pixel_size=0.69
    ) as file:
        for i in range(spots):
            file["img"][i] = first + i
    return path


@pytest.fixture
def sections(tmp_path: Path) -> list[SectionRows]:
    return [
        SectionRows(section(tmp_path, "A1", 0, 10), np.array([0, 2, 3, 9])),
        SectionRows(section(tmp_path, "A2", 100, 6), np.array([], dtype=np.int64)),
        SectionRows(section(tmp_path, "B1", 200, 6), np.array([1, 5])),
    ]


VALUES = [0, 2, 3, 9, 201, 205]


def test_patches_on_disk_equal_those_in_memory(sections: list[SectionRows]) -> None:
    held, stored = load_patches(sections), load_patches(sections, max_bytes=100)
    assert isinstance(held, np.ndarray)
    assert isinstance(stored, PatchesOnDisk)
    assert len(held) == len(stored) == 6
    for rows in ([0, 1, 2, 3, 4, 5], [5, 0, 4], [3, 3, 5]):
        asked = np.array(rows)
        np.testing.assert_array_equal(held[asked], stored[asked])
        assert held[asked][:, 0, 0, 0].tolist() == [VALUES[row] for row in rows]


def batches(patches: np.ndarray | PatchesOnDisk, **changes: object) -> SpotBatches:
    targets = np.array(VALUES, dtype=np.float32)[:, None] * [1, -1]
    given = {"batch_size": 4, "seed": 5, **changes}
    return SpotBatches(patches, targets, **given)  # type: ignore[arg-type]


def test_every_spot_comes_once_with_its_own_target(sections: list[SectionRows]) -> None:
    found = list(batches(load_patches(sections)).epoch(0))
    assert [len(patches) for patches, _ in found] == [4, 2]  # the last, incomplete batch is kept
    patches, targets = (torch.cat(parts) for parts in zip(*found, strict=True))
    assert patches.dtype == torch.uint8
    assert targets.dtype == torch.float32
    assert patches[:, 0, 0, 0].tolist() == targets[:, 0].tolist() == (-targets[:, 1]).tolist()
    assert sorted(targets[:, 0].tolist()) == VALUES


def test_epochs_repeat_exactly_and_differ_from_each_other(sections: list[SectionRows]) -> None:
    spots = batches(load_patches(sections), augment=AugmentConfig(stain=0.3))

    def contents(epoch: int) -> bytes:
        return b"".join(
            patches.numpy().tobytes() + targets.numpy().tobytes()
            for patches, targets in spots.epoch(epoch)
        )

    assert contents(2) == contents(2)
    assert len({contents(epoch) for epoch in range(5)}) == 5
    again = batches(load_patches(sections), augment=AugmentConfig(stain=0.3), seed=6)
    assert b"".join(
        p.numpy().tobytes() + t.numpy().tobytes() for p, t in again.epoch(2)
    ) != contents(2)


def test_augmentation_does_not_change_what_is_stored(sections: list[SectionRows]) -> None:
    held = load_patches(sections)
    before = np.array(held[np.arange(6)])
    list(batches(held, augment=AugmentConfig(stain=0.3)).epoch(0))
    np.testing.assert_array_equal(held[np.arange(6)], before)


def test_a_last_batch_of_one_joins_the_one_before() -> None:
    assert [len(part) for part in split_order(torch.arange(9), 4)] == [4, 5]
    assert [len(part) for part in split_order(torch.arange(10), 4)] == [4, 4, 2]
    assert [len(part) for part in split_order(torch.arange(1), 4)] == [1]
    assert [len(part) for part in split_order(torch.arange(3), 1)] == [1, 1, 1]  # as asked
    assert torch.equal(torch.cat(split_order(torch.arange(9), 4)), torch.arange(9))


def test_seeds_of_neighbours_are_unrelated() -> None:
    seeds = [
        derive_seed(seed, epoch, purpose)
        for seed in range(10)
        for epoch in range(10)
        for purpose in range(2)
    ]
    assert len(set(seeds)) == 200
    assert derive_seed(1, 2) == derive_seed(1, 2)
    assert all(0 <= seed < 2**63 for seed in seeds)  # what torch.Generator takes


def test_patches_and_targets_must_agree() -> None:
    with pytest.raises(ValueError, match="2 patches, but 6 targets"):
        batches(np.zeros((2, PX, PX, 3), np.uint8))


def test_no_spot_left_is_an_error(sections: list[SectionRows]) -> None:
    with pytest.raises(InputError, match="no spot is left"):
        load_patches(sections[1:2])


def test_sections_of_different_patch_sizes_are_refused(
    sections: list[SectionRows], tmp_path: Path
) -> None:
    other = SectionRows(section(tmp_path, "C1", 0, 2, px=9), np.array([0, 1]))
    with pytest.raises(
        InputError,
        match=r"C1_patches\.h5: patches are 9 px wide, but those of A1_patches\.h5 are 8 px",
    ):
        load_patches([*sections, other])


def test_batches_are_those_made_one_after_the_other(sections: list[SectionRows]) -> None:
    """Draws of order and augmentation follow the order of the batches, in any thread."""
    held, config = load_patches(sections), AugmentConfig(stain=0.3, blur=1.0)
    stored = load_patches(sections, max_bytes=100)
    found = list(batches(stored, batch_size=2, augment=config).epoch(3))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(derive_seed(5, 3, 0)))
    generator = torch.Generator().manual_seed(derive_seed(5, 3, 1))
    assert len(found) == 3
    for (patches, targets), rows in zip(found, order.split(2), strict=True):
        assert torch.equal(
            patches, augment(torch.from_numpy(held[rows.numpy()]), generator, config)
        )
        assert targets[:, 0].tolist() == [VALUES[row] for row in rows]


class Watched:
    """Patches that record the threads by which they were read, and that can fail."""

    def __init__(self, broken_at: int = 10**9) -> None:
        self.readers: list[str] = []
        self.broken_at = broken_at

    def __len__(self) -> int:
        return len(VALUES)

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        self.readers.append(threading.current_thread().name)
        if len(self.readers) > self.broken_at:
            raise InputError("is cut off", path="A1_patches.h5")
        return np.zeros((len(rows), PX, PX, 3), np.uint8)


def test_patches_are_read_in_a_thread_and_two_batches_ahead() -> None:
    watched = Watched()
    before = threading.active_count()
    epoch = iter(batches(watched, batch_size=1).epoch(0))  # type: ignore[arg-type]
    next(epoch)
    epoch.close()  # as when training ends early
    assert 1 <= len(watched.readers) <= 4
    assert threading.current_thread().name not in watched.readers
    assert threading.active_count() == before


def test_an_error_of_reading_is_raised_in_its_turn() -> None:
    before = threading.active_count()
    epoch = iter(batches(Watched(broken_at=2), batch_size=1).epoch(0))  # type: ignore[arg-type]
    next(epoch)
    next(epoch)
    with pytest.raises(InputError, match=r"A1_patches\.h5: is cut off"):
        next(epoch)
    assert threading.active_count() == before
