"""Tile sets check their arrays, and can be reduced to some of their tiles."""

from __future__ import annotations

import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import RejectedTiles, TileQuality, TileSet


def test_tile_sets_check_their_arrays() -> None:
    spec = TileSpec.for_slide(PatchSize(), slide_mpp=0.5, level_downsamples=[1])
    with pytest.raises(InputError, match="1 tissue fractions"):
        TileSet("s", np.zeros((2, 2), np.int64), np.zeros(1, np.float32), spec, (10, 10))


def test_selected_tiles_keep_their_own_values() -> None:
    spec = TileSpec.for_slide(PatchSize(), slide_mpp=0.5, level_downsamples=[1])
    coords = np.arange(6, dtype=np.int64).reshape(3, 2)
    share = np.array([0.1, 0.2, 0.3], np.float32)
    quality = TileQuality(share, share, share, share)
    rejected = RejectedTiles(coords, share, quality, np.ones(3, np.uint8))
    tiles = TileSet("s", coords, share, spec, (10, 10), "p", quality, rejected, None, {"x": 1})
    for rows in ([2, 0], np.array([2, 0])):
        chosen = tiles.select(rows)
        assert chosen.coords.tolist() == [[4, 5], [0, 1]]
        assert chosen.tissue_fraction.tolist() == share[[2, 0]].tolist()
        assert chosen.quality is not None
        assert chosen.quality.pen.tolist() == share[[2, 0]].tolist()
        assert (chosen.rejected, chosen.patient_id, chosen.settings) == (None, "p", {"x": 1})
    assert tiles.select(slice(0, 1)).coords.tolist() == [[0, 1]]
    assert tiles.select(np.array([False, True, False])).coords.tolist() == [[2, 3]]
    assert len(tiles.select([])) == 0
