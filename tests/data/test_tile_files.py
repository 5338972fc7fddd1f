"""Tile files come back as written; damaged and foreign ones are named."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tcgn_mil.contracts import PatchSize, TileSet, TileSpec
from tcgn_mil.data.tile_files import read_tile_settings, read_tiles, write_tiles
from tcgn_mil.errors import InputError

SPEC = TileSpec.for_slide(PatchSize(), slide_mpp=0.25, level_downsamples=[1, 2, 4])


def write(path: Path, count: int = 3) -> TileSet:
    coords = np.arange(count * 2).reshape(count, 2) * 100
    tiles = TileSet("slide 1", coords, np.linspace(0.5, 1, count).astype(np.float32), SPEC, (5000, 4000), "P1")
    write_tiles(path, tiles, slide_file="slide 1.svs", settings={"min_tissue": 0.5})
    return tiles


@pytest.mark.parametrize("count", [0, 1, 3])
def test_tiles_come_back_as_written(tmp_path: Path, count: int) -> None:
    path = tmp_path / "slide.h5"
    tiles, found = write(path, count), read_tiles(path)
    assert np.array_equal(found.coords, tiles.coords)
    assert np.array_equal(found.tissue_fraction, tiles.tissue_fraction)
    assert (found.slide_id, found.patient_id, found.spec, found.slide_size) == ("slide 1", "P1", SPEC, (5000, 4000))
    assert read_tile_settings(path) == (SPEC, {"min_tissue": 0.5})


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
        (drop_dataset, "is no tile file: it has no tissue_fraction"),
        (float_coords, "coords are float64"),
        (fewer_fractions, "has 3 tiles, but tissue fractions"),
        (drop_slide, "no attribute 'slide_id'"),
        (drop_spec, "no attribute 'spec'"),
        (broken_spec, "attribute 'spec' is no JSON object"),
        (foreign_spec, "its tile spec holds tile_px, not"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path: Path, damage: object, message: str) -> None:
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
