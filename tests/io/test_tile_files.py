"""Tile files are read back as they were written; damaged and foreign files are named."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.tile_files import read_tile_settings, read_tiles, write_tiles
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import RejectedTiles, Stain, TileQuality, TileSet

SPEC = TileSpec.for_slide(PatchSize(), slide_mpp=0.25, level_downsamples=[1, 2, 4])


def write(path: Path, count: int = 3) -> TileSet:
    coords = np.arange(count * 2).reshape(count, 2) * 100
    tiles = TileSet(
        "slide 1",
        coords,
        np.linspace(0.5, 1, count).astype(np.float32),
        SPEC,
        (5000, 4000),
        "P1",
        settings={"min_tissue": 0.5},
    )
    write_tiles(path, tiles, slide_file="slide 1.svs")
    return tiles


@pytest.mark.parametrize("count", [0, 1, 3])
def test_tiles_come_back_as_written(tmp_path: Path, count: int) -> None:
    path = tmp_path / "slide.h5"
    tiles, found = write(path, count), read_tiles(path)
    assert np.array_equal(found.coords, tiles.coords)
    assert np.array_equal(found.tissue_fraction, tiles.tissue_fraction)
    assert (found.slide_id, found.patient_id, found.spec, found.slide_size) == (
        "slide 1",
        "P1",
        SPEC,
        (5000, 4000),
    )
    assert read_tile_settings(path) == (SPEC, {"min_tissue": 0.5})


def quality(count: int) -> TileQuality:
    return TileQuality(*np.linspace(0, 1, 4 * count, dtype=np.float32).reshape(4, count))


@pytest.mark.parametrize("left_out", [0, 2])
def test_quality_and_rejected_tiles_come_back(tmp_path: Path, left_out: int) -> None:
    coords = np.arange(6).reshape(3, 2)
    fractions = np.ones(3, dtype=np.float32)
    rejected = RejectedTiles(
        coords[:left_out] + 7,
        fractions[:left_out],
        quality(left_out),
        np.array([1, 3], dtype=np.uint8)[:left_out],
    )
    tiles = TileSet(
        "s", coords, fractions, SPEC, (5000, 4000), quality=quality(3), rejected=rejected
    )
    write_tiles(tmp_path / "s.h5", tiles, slide_file="s.svs")
    found = read_tiles(tmp_path / "s.h5")
    assert found.quality is not None
    assert found.rejected is not None
    assert len(found.rejected) == left_out
    for name in ("focus", "blur", "pen", "fold"):
        assert np.array_equal(getattr(found.quality, name), getattr(quality(3), name))
        assert np.array_equal(
            getattr(found.rejected.quality, name), getattr(quality(left_out), name)
        )
    assert np.array_equal(found.rejected.coords, rejected.coords)
    assert np.array_equal(found.rejected.verdict, rejected.verdict)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("focus", np.zeros(2)),
        ("rejected/verdict", np.array([0], np.uint8)),
        ("rejected/verdict", np.array([9], np.uint8)),
    ],
)
def test_quality_that_does_not_fit_is_refused(
    tmp_path: Path, name: str, values: np.ndarray
) -> None:
    path = tmp_path / "s.h5"
    rejected = RejectedTiles(
        np.zeros((1, 2), int), np.ones(1, np.float32), quality(1), np.ones(1, np.uint8)
    )
    tiles = TileSet(
        "s",
        np.zeros((1, 2), int),
        np.ones(1, np.float32),
        SPEC,
        (5000, 4000),
        quality=quality(1),
        rejected=rejected,
    )
    write_tiles(path, tiles, slide_file="s.svs")
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = values
    with pytest.raises(InputError, match=r"s\.h5"):
        read_tiles(path)


def test_the_stain_normalisation_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    stain = Stain("reinhard", "typical.png", (50.0, 20.0, -10.0, 9.0, 5.0, 4.0), (1 / 3,) * 6)
    tiles = TileSet(
        "s", np.zeros((1, 2), int), np.ones(1, np.float32), SPEC, (5000, 4000), stain=stain
    )
    write_tiles(path, tiles, slide_file="s.svs")
    assert read_tiles(path).stain == stain
    for damage in (
        "{}",
        '{"method": "reinhard", "reference": "", "target": [1], "source": [1]}',
        "no JSON",
    ):
        with h5py.File(path, "r+") as file:
            file.attrs["stain"] = damage
        with pytest.raises(InputError, match=r"s\.h5: .*attribute 'stain' is no"):
            read_tiles(path)


def test_no_pixels_and_no_machine_paths_are_stored(tmp_path: Path) -> None:
    write(tmp_path / "slide.h5")
    with h5py.File(tmp_path / "slide.h5") as file:
        assert set(file) == {"coords", "tissue_fraction"}
        assert file.attrs["slide_file"] == "slide 1.svs"
        assert str(tmp_path) not in " ".join(str(value) for value in file.attrs.values())


def drop_dataset(file: h5py.File) -> None:
    del file["tissue_fraction"]


def float_coords(file: h5py.File) -> None:
    del file["coords"]
    file["coords"] = np.zeros((3, 2))


def fewer_fractions(file: h5py.File) -> None:
    del file["tissue_fraction"]
    file["tissue_fraction"] = np.zeros(2)


def drop_slide(file: h5py.File) -> None:
    del file.attrs["slide_id"]


def drop_spec(file: h5py.File) -> None:
    del file.attrs["spec"]


def broken_spec(file: h5py.File) -> None:
    file.attrs["spec"] = "{"


def foreign_spec(file: h5py.File) -> None:
    file.attrs["spec"] = '{"tile_px": 3}'


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_dataset, "is not a tile file: it has no tissue_fraction"),
        (float_coords, "coords are float64"),
        (fewer_fractions, "has 3 tiles, but tissue fractions"),
        (drop_slide, "no attribute 'slide_id'"),
        (drop_spec, "no attribute 'spec'"),
        (broken_spec, "attribute 'spec' is not a JSON object"),
        (foreign_spec, "its tile spec holds tile_px, not"),
    ],
)
def test_other_files_are_refused_with_the_reason(
    tmp_path: Path, damage: object, message: str
) -> None:
    path = tmp_path / "slide.h5"
    write(path)
    with h5py.File(path, "a") as file:
        damage(file)  # type: ignore[operator]
    with pytest.raises(InputError) as caught:
        read_tiles(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert " Fix: " in str(caught.value)


def test_missing_and_cut_off_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "slide.h5"
    with pytest.raises(InputError, match="no such tile file"):
        read_tiles(path)
    write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"slide.h5: cannot be read as HDF5"):
        read_tiles(path)
