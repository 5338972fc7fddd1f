"""Feature files are read back as they were written, whole or in part; NaN is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from tile_sets import tile_set

from tcgn_mil.errors import InputError
from tcgn_mil.io.feature_files import (
    find_features,
    read_feature_info,
    read_feature_names,
    read_features,
    read_mean_colour,
    write_feature_blocks,
    write_features,
)
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.types.features import UNKNOWN, FeatureInfo
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import Stain

SPEC = TileSpec.for_slide(PatchSize(), slide_mpp=0.25, level_downsamples=[1])


def write(path: Path, features: np.ndarray, colour: np.ndarray | None = None) -> None:
    coords = np.arange(len(features) * 2).reshape(-1, 2)
    tiles = tile_set(coords, SPEC, "s1", "P1")
    write_features(path, features, tiles, encoder="tiny-1", colour=colour)


def test_the_stain_normalisation_is_recorded(tmp_path: Path) -> None:
    stain = Stain("macenko", "typical.png", tuple(np.arange(8) / 3), tuple(np.arange(8) / 7))
    coords = np.zeros((7, 2), np.int64)
    tiles = tile_set(coords, SPEC, "s1", "P1", stain=stain)
    write_features(tmp_path / "s1.h5", values(), tiles, encoder="tiny-1")
    assert read_feature_info(tmp_path / "s1.h5").stain == stain
    write(tmp_path / "plain.h5", values())
    assert read_feature_info(tmp_path / "plain.h5").stain is None


def values(rows: int = 7, width: int = 4, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, width)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_features_come_back_as_written(tmp_path: Path, rows: int, dtype: type) -> None:
    path = tmp_path / "s1.h5"
    write(path, values(rows, dtype=dtype))
    features, coords, info = read_features(path)
    assert features.dtype == np.float32
    assert np.array_equal(features, values(rows, dtype=dtype).astype(np.float32))
    assert coords.shape == (rows, 2)
    assert info == read_feature_info(path)
    assert (info.slide_id, info.patient_id, info.encoder) == ("s1", "P1", "tiny-1")
    assert (info.n_tiles, info.width, info.patch) == (rows, 4, PatchSize())
    with h5py.File(path) as file:
        assert file["features"].dtype == (np.float16 if dtype == np.float16 else np.float32)


def test_a_sample_of_tiles_is_read_alone(tmp_path: Path) -> None:
    path = tmp_path / "s1.h5"
    write(path, values())
    features, coords, info = read_features(path, np.array([1, 4]))
    assert np.array_equal(features, values()[[1, 4]])
    assert coords.tolist() == [[2, 3], [8, 9]]
    assert info.n_tiles == 7


def test_mean_colour_is_none_where_there_is_none(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", values())
    assert read_mean_colour(tmp_path / "a.h5") is None
    write(tmp_path / "b.h5", values(), colour=np.arange(7 * 30).reshape(7, 30))
    assert np.allclose(read_mean_colour(tmp_path / "b.h5"), np.arange(30) + 90)
    write(tmp_path / "c.h5", values(0), colour=np.empty((0, 30)))
    assert read_mean_colour(tmp_path / "c.h5") is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_not_written(tmp_path: Path, bad: float) -> None:
    features = values()
    features[2, 1] = bad
    with pytest.raises(
        InputError, match=r"slide s1: 1 tiles have features that are not finite.*\(4, 5\)"
    ):
        write(tmp_path / "s1.h5", features)
    assert not list(tmp_path.iterdir())


def test_features_that_are_not_finite_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "s1.h5"
    write(path, values())
    with h5py.File(path, "a") as file:
        file["features"][3, 0] = np.nan
    with pytest.raises(InputError, match=r"s1.h5: holds features that are not finite"):
        read_features(path)


def write_row(path: Path, row: np.ndarray, encoder: str, **options: object) -> None:
    info = FeatureInfo("s1", "P1", 1, len(row), encoder, SPEC, positions=UNKNOWN)
    write_feature_blocks(
        path, [row[None]], np.full((1, 2), -1), info, dtype=np.dtype(np.float32), **options
    )


def test_features_of_tables_may_be_missing_but_not_infinite(tmp_path: Path) -> None:
    row = np.array([1, np.nan, 3], np.float32)
    path = tmp_path / "s1.h5"
    write_row(path, row, "table:hif@0a1b2c3d")
    np.testing.assert_array_equal(read_features(path).features, row[None])
    with pytest.raises(InputError, match="not finite"):
        write_row(tmp_path / "no.h5", row, "tiny-1")
    with pytest.raises(InputError, match="not finite"):
        write_row(tmp_path / "no.h5", np.float32([1, np.inf, 3]), "table:hif@0a1b2c3d")
    with h5py.File(path, "a") as file:
        file["features"][0, 0] = -np.inf
    with pytest.raises(InputError, match="not finite"):
        read_features(path)


def test_names_of_features_are_kept(tmp_path: Path) -> None:
    names = ("area µm2", "TOTAL [CELLS] IN [TUMOR], ALL", "x")
    row = np.zeros(3, np.float32)
    write_row(tmp_path / "a.h5", row, "table:x", names=names)
    assert read_feature_names(tmp_path / "a.h5") == names
    write(tmp_path / "b.h5", values())
    assert read_feature_names(tmp_path / "b.h5") == ()


def test_arrays_of_different_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not match"):
        write(tmp_path / "s1.h5", values(), colour=np.zeros((3, 30)))
    write(tmp_path / "s1.h5", values())
    with h5py.File(tmp_path / "s1.h5", "a") as file:
        del file["coords"]
        file["coords"] = np.zeros((3, 2), dtype=int)
    with pytest.raises(InputError, match=r"features \(7, 4\) and coords \(3, 2\) do not match"):
        read_feature_info(tmp_path / "s1.h5")


def test_damage_inside_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s1.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=values(200, 64), chunks=(10, 64), fletcher32=True)
        file["coords"] = np.zeros((200, 2), dtype=int)
        file.attrs["spec"] = "{}"
        offset = file["features"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 8] ^= 0xFF
    path.write_bytes(content)
    with (
        pytest.raises(InputError, match=r"s1.h5: is damaged"),
        open_hdf5(path, kind="feature") as file,
    ):
        file["features"][:]


def test_errors_of_other_files_are_not_blamed_on_this_one(tmp_path: Path) -> None:
    write(tmp_path / "s1.h5", values())
    with pytest.raises(FileNotFoundError), open_hdf5(tmp_path / "s1.h5", kind="feature"):
        (tmp_path / "other").read_bytes()


def test_folder_is_listed_by_slide(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder of feature files"):
        find_features(tmp_path / "none")
    with pytest.raises(InputError, match="holds no feature file"):
        find_features(tmp_path)
    for name in ("b", "a", ".a.tmp"):
        write(tmp_path / f"{name}.h5", values())
    assert list(find_features(tmp_path)) == ["a", "b"]


def test_how_tiles_were_kept_is_recorded(tmp_path: Path) -> None:
    rules = {"min_tissue": 0.3, "tissue_finder": "roughness-2"}
    coords = np.zeros((7, 2), np.int64)
    tiles = tile_set(coords, SPEC, "s1", "P1", settings=rules)
    write_features(tmp_path / "s1.h5", values(), tiles, encoder="tiny-1")
    assert read_feature_info(tmp_path / "s1.h5").tiling == rules
    write(tmp_path / "plain.h5", values())
    assert read_feature_info(tmp_path / "plain.h5").tiling == {}
