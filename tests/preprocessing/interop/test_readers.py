"""Tests of the registry of tile layouts: a layout is added from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tcgn_mil.preprocessing.interop.readers import (
    TILE_LAYOUTS,
    LaidTiles,
    TileLayout,
    register_tile_layout,
)
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.table import SlideEntry


@pytest.fixture
def _registry() -> Iterator[None]:
    before = dict(TILE_LAYOUTS)
    yield
    TILE_LAYOUTS.clear()
    TILE_LAYOUTS.update(before)


@pytest.mark.usefixtures("_registry")
def test_door_a_tile_layout_is_added_from_outside(pyramid: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "painted.h5", "w") as file:
        file["corners"] = np.array([[0, 0], [300, 200]])
        file.attrs["side"] = 200

    def read(file: h5py.File, path: str | Path) -> LaidTiles:
        return LaidTiles("corners", file["corners"][:], file.attrs["side"], 100, 100)

    register_tile_layout(TileLayout("corners", lambda file: "corners" in file, read))

    source = TileSource({"painted": SlideEntry("painted", "P", pyramid)}, tmp_path)
    tiles = source.find("painted")
    assert tiles.coords.tolist() == [[0, 0], [300, 200]]
    assert tiles.spec.patch.um == pytest.approx(200 * 0.5)
    with source.open(tiles, batch_size=8) as batches:
        assert [pixels.shape for pixels, _ in batches] == [(2, 100, 100, 3)]
