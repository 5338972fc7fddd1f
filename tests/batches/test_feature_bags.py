"""Bags are read, sampled and padded as asked, and unusable files are refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tile_sets import tile_set

from tcgn_mil.batches import bag_files
from tcgn_mil.batches.bag_files import mean_features, read_bag
from tcgn_mil.batches.feature_bags import BagDataset, collate, feature_statistics
from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import read_features, read_stored_features, write_features
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import Stain

D = 6
SPEC = TileSpec.for_slide(PatchSize(112, 0.69), slide_mpp=0.69, level_downsamples=[1.0])


def slide(
    folder: Path,
    name: str,
    tiles: int,
    *,
    width: int = D,
    encoder: str = "toy-0",
    spec: TileSpec = SPEC,
    stain: Stain | None = None,
) -> Path:
    """Write a feature file in which tile i of slide s has features s * 1000 + i."""
    path = folder / f"{name}.h5"
    first = sum(map(ord, name)) % 7 * 1000
    features = np.repeat(first + np.arange(tiles, dtype=np.float32)[:, None], width, axis=1)
    coords = np.stack([np.arange(tiles), np.arange(tiles)], axis=1).astype(np.int64) * 112
    tile_coordinates = tile_set(coords, spec, name, name[0], stain=stain)
    write_features(path, features, tile_coordinates, encoder=encoder)
    return path


def test_stain_normalisations_do_not_mix(tmp_path: Path) -> None:
    """All slides need one reference, although each slide is fitted by itself."""
    targets = (0.5,) * 8, (0.6,) * 8
    stains = [
        Stain("macenko", "a.png", target, (float(i),) * 8)
        for i, target in enumerate((*targets, targets[0]))
    ]
    first, other, same = (
        slide(tmp_path, f"a{i}", 3, stain=stain) for i, stain in enumerate(stains)
    )
    assert len(read_bag([first, same]).features) == 6
    for mixed in (other, slide(tmp_path, "plain", 3)):
        with pytest.raises(
            InputError,
            match=r"stain normalisation .*, but that of a0\.h5 is macenko-.*Fix: tile and",
        ):
            read_bag([first, mixed])


@pytest.fixture
def dataset(tmp_path: Path) -> BagDataset:
    files = {
        "a": [slide(tmp_path, "a1", 30), slide(tmp_path, "a2", 10)],
        "b": [slide(tmp_path, "b1", 5)],
        "c": [slide(tmp_path, "c1", 1)],
    }
    return BagDataset(("a", "b", "c"), files, np.arange(6, dtype=np.float32).reshape(3, 2), seed=3)


def test_the_slides_of_a_patient_are_one_bag(dataset: BagDataset) -> None:
    bag = dataset.bag(0)
    assert bag.features.shape == (40, D)
    assert bag.features.dtype == np.float32
    assert np.bincount(bag.slide_index).tolist() == [30, 10]
    for index, opened in enumerate(dataset.slides["a"]):
        features, coords, _ = read_features(opened.path)
        np.testing.assert_array_equal(bag.features[bag.slide_index == index], features)
        np.testing.assert_array_equal(bag.coords[bag.slide_index == index], coords)


def test_an_empty_slide_adds_nothing_to_its_patient(tmp_path: Path) -> None:
    bag = read_bag([slide(tmp_path, "a1", 0), slide(tmp_path, "a2", 3)])
    assert bag.slide_index.tolist() == [1, 1, 1]


def test_a_sample_is_without_replacement_over_all_slides(dataset: BagDataset) -> None:
    paths = [opened.path for opened in dataset.slides["a"]]
    everything = read_bag(paths)
    known = {(int(s), float(f[0])): tuple(c) for f, c, s in zip(*everything, strict=True)}
    seen: set[tuple[int, float]] = set()
    for seed in range(40):
        bag = read_bag(paths, max_tiles=12, generator=np.random.default_rng(seed))
        tiles = [(int(s), float(f[0])) for f, s in zip(bag.features, bag.slide_index, strict=True)]
        assert len(set(tiles)) == 12
        assert all(
            known[tile] == tuple(c) for tile, c in zip(tiles, bag.coords, strict=True)
        )  # with their coords
        seen |= set(tiles)
    assert seen == set(known)  # every tile has its turn


def test_a_bag_within_the_limit_is_whole(dataset: BagDataset) -> None:
    paths = [opened.path for opened in dataset.slides["b"]]
    assert len(read_bag(paths, max_tiles=5).features) == 5


def test_an_epoch_serves_every_patient_once_with_its_own_targets(dataset: BagDataset) -> None:
    rows = [
        row
        for batch in dataset.epoch(0, batch_size=2, max_tiles=None)
        for row in batch.targets.tolist()
    ]
    assert sorted(rows) == dataset.targets.tolist()


def test_epochs_repeat_exactly_and_differ_from_each_other(dataset: BagDataset) -> None:
    def contents(epoch: int) -> list[bytes]:
        batches = dataset.epoch(epoch, batch_size=2, max_tiles=4)
        return [
            batch.features.numpy().tobytes() + batch.targets.numpy().tobytes() for batch in batches
        ]

    assert contents(1) == contents(1)
    assert len({tuple(contents(epoch)) for epoch in range(5)}) == 5


def test_a_patients_sample_does_not_depend_on_the_batch_it_is_in(dataset: BagDataset) -> None:
    def tiles(batch_size: int) -> dict[float, bytes]:
        batches = dataset.epoch(2, batch_size=batch_size, max_tiles=4)
        return {
            float(batch.targets[row, 0]): batch.features[row][batch.mask[row]].numpy().tobytes()
            for batch in batches
            for row in range(len(batch.mask))
        }

    assert tiles(1) == tiles(3)


def test_an_epoch_reads_a_batch_at_a_time(
    dataset: BagDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(
        bag_files,
        "read_stored_features",
        lambda path, *rest, **info: read.append(path) or read_stored_features(path, *rest, **info),
    )
    batches = iter(dataset.epoch(0, batch_size=1, max_tiles=2))
    assert read == []
    next(batches)
    assert len(read) <= 2  # one patient of at most two slides


def test_collating_pads_with_zeros_and_masks(dataset: BagDataset) -> None:
    batch = collate([dataset.bag(1), dataset.bag(2)], dataset.targets[[1, 2]])
    assert batch.features.shape == (2, 5, D)
    assert batch.mask.sum(dim=1).tolist() == [5, 1]
    assert (batch.features[~batch.mask] == 0).all()
    assert torch.equal(batch.features[1, 0], torch.from_numpy(dataset.bag(2).features[0]))


def test_feature_statistics_weigh_patients_equally(dataset: BagDataset) -> None:
    tiles = [dataset.bag(index).features.astype(np.float64) for index in range(3)]
    mean = np.mean([part.mean(axis=0) for part in tiles], axis=0)
    std = np.sqrt(np.mean([np.square(part - mean).mean(axis=0) for part in tiles], axis=0))
    found = feature_statistics(dataset, max_tiles=None)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(found.std, std, rtol=1e-5)


def test_features_that_do_not_vary_are_not_magnified(tmp_path: Path) -> None:
    files = {
        "a": [slide(tmp_path, "a1", 1)],
        "h": [slide(tmp_path, "h1", 1)],
    }  # the same value in both
    with h5py.File(files["h"][0], "r+") as file:
        file["features"][0, 1] += 0.01  # of thousands
    found = feature_statistics(make(files), max_tiles=None)
    assert found.std.tolist() == [1.0] * D


def test_missing_values_are_left_out_of_feature_statistics(tmp_path: Path) -> None:
    nan = np.nan
    rows = {
        "a": [[1, 2, nan, 5, nan, 0], [3, nan, nan, 7, nan, 0]],
        "b": [[5, 4, 8, nan, nan, 0]],
        "c": [[9, 6, 2, 1, nan, 0]],
    }
    files = {}
    for name, tiles in rows.items():
        files[name] = [slide(tmp_path, name, len(tiles), encoder="table:toy")]
        with h5py.File(files[name][0], "r+") as file:
            file["features"][:] = tiles
    found = feature_statistics(make(files), max_tiles=None)
    # Means of the patients: 2, 5, 9; 2, 4, 6; 8, 2; 6, 1. Feature 4 is never known.
    np.testing.assert_allclose(found.mean, [16 / 3, 4, 5, 3.5, 0, 0], rtol=1e-6)
    squares = np.array([(1 + 9) / 2 + 25 + 81, 4 + 16 + 36, 64 + 4, (25 + 49) / 2 + 1])
    variance = squares / [3, 3, 2, 2] - np.square([16 / 3, 4, 5, 3.5])
    np.testing.assert_allclose(found.std, [*np.sqrt(variance), 1, 1], rtol=1e-6)


def test_mean_features_leave_missing_values_out_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    values = np.array([[1, np.nan, np.nan], [2, 8, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(mean_features(values), np.float32([1.5, 8, np.nan]))
    assert not list(recwarn)


def make(files: dict[str, list[Path]]) -> BagDataset:
    return BagDataset(tuple(files), files, np.zeros((len(files), 2), np.float32), seed=0)


def test_a_patient_without_tiles_is_refused_by_name(tmp_path: Path) -> None:
    files = {"a": [slide(tmp_path, "a1", 3)], "b": [slide(tmp_path, "b1", 0)]}
    with pytest.raises(InputError, match=r"b1\.h5: patient b has no tile"):
        make(files)
    with pytest.raises(InputError, match=r"b1\.h5: the patient has no tile"):
        read_bag(files["b"])


def test_a_patient_without_files_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no feature file for b"):
        make({"a": [slide(tmp_path, "a1", 3)], "b": []})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"width": 4},
            r"b1\.h5: features of toy-0 \(4 wide\), but those of a1\.h5 are of toy-0 \(6 wide\)",
        ),
        ({"encoder": "toy-1"}, r"b1\.h5: features of toy-1 .* a1\.h5 are of toy-0"),
        (
            {
                "spec": TileSpec.for_slide(
                    PatchSize(224, 0.5), slide_mpp=0.5, level_downsamples=[1.0]
                )
            },
            r"b1\.h5: tiles of 112\.0 µm .* a1\.h5 are 77\.3 µm",
        ),
    ],
)
def test_features_that_do_not_belong_together_are_refused(
    tmp_path: Path, other: dict, message: str
) -> None:
    files = {"a": [slide(tmp_path, "a1", 3)], "b": [slide(tmp_path, "b1", 3, **other)]}
    with pytest.raises(InputError, match=message):
        make(files)


def test_nan_features_are_refused_with_the_file(tmp_path: Path) -> None:
    path = slide(tmp_path, "a1", 3)
    with h5py.File(path, "r+") as file:
        file["features"][1, 2] = np.nan
    with pytest.raises(InputError, match=r"a1\.h5: .*not finite"):
        make({"a": [path]}).bag(0)


def test_a_sample_of_no_tiles_is_refused(dataset: BagDataset) -> None:
    with pytest.raises(InputError, match="max_tiles is 0"):
        dataset.epoch(0, batch_size=2, max_tiles=0)


@pytest.mark.parametrize("max_tiles", [None, 7])
def test_keeping_tiles_in_memory_changes_nothing(
    dataset: BagDataset, max_tiles: int | None
) -> None:
    files = {name: [slide.path for slide in slides] for name, slides in dataset.slides.items()}
    size = 40 * (D * 4 + 24)
    bounded = BagDataset(dataset.patients, files, dataset.targets, seed=3, kept_bytes=size)
    never = BagDataset(dataset.patients, files, dataset.targets, seed=3, kept_bytes=0)
    for number in (0, 0, 1):
        for row in range(3):
            found = [
                part.epoch(number, batch_size=2, max_tiles=max_tiles).bag(row)
                for part in (dataset, bounded, never)
            ]
            for other in found[1:]:
                for left, right in zip(found[0], other, strict=True):
                    np.testing.assert_array_equal(left, right)
    assert [set(part._kept) for part in (dataset, bounded, never)] == [
        {"a", "b", "c"},
        {"a"},
        set(),
    ]
