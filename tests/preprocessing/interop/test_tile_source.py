"""Tests of TileSource: tiles are found by slide id, and slides that do not fit are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.hdf5_limits import check_hdf5
from tcgn_mil.preprocessing.interop.tile_source import TileSource, read_centre_tile
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_slide
from tcgn_mil.types.tile_geometry import PatchSize


def test_tiles_are_found_and_read_in_batches(pyramid: Path, tmp_path: Path) -> None:
    source = TileSource.from_slides(pyramid, tiles=tmp_path)
    made = tile_slide(source.entries["painted"], TileSettings(), tmp_path)
    tiles = source.find("painted")
    np.testing.assert_array_equal(tiles.coords, made.coords)
    with source.open(tiles, batch_size=10) as batches:
        read = list(batches)
    assert [len(pixels) for pixels, _ in read[:-1]] == [10] * (len(read) - 1)
    np.testing.assert_array_equal(np.concatenate([coords for _, coords in read]), tiles.coords)


def test_a_tile_file_is_opened_once(
    pyramid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run over thousands of slides opens each of their files."""
    source = TileSource.from_slides(pyramid, tiles=tmp_path)
    tile_slide(source.entries["painted"], TileSettings(), tmp_path)
    opened: list[Path] = []

    def check(file: h5py.File, path: Path) -> None:  # whatever opens a file checks it
        opened.append(path)
        check_hdf5(file, path)

    monkeypatch.setattr("tcgn_mil.io.hdf5.check_hdf5", check)
    source.find("painted")
    assert opened == [tmp_path / "painted.h5"]


def test_unknown_slides_and_slides_of_another_size_are_refused(
    pyramid: Path, tmp_path: Path
) -> None:
    source = TileSource.from_slides(pyramid, tiles=tmp_path)
    tiles = tile_slide(source.entries["painted"], TileSettings(), tmp_path)
    with pytest.raises(InputError, match=r"slide other is not among the slides given \(painted\)"):
        source.find("other")
    with (
        pytest.raises(InputError, match="its tiles were laid on"),
        source.open(replace(tiles, slide_size=(10, 10)), 1),
    ):
        pass
    with pytest.raises(ValueError, match="needs the folder"):
        TileSource(source.entries).find("painted")


def test_the_centre_of_an_image_is_read_at_the_size_asked_for(pyramid: Path) -> None:
    pixels = read_centre_tile(pyramid, PatchSize(100, 0.5))
    with open_slide(pyramid) as slide:
        expected = slide.read(1150, 850, 0, 100, 100)
    np.testing.assert_array_equal(pixels, expected)
