"""Tile sets for tests that need coordinates only."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcgn_mil.types.tile_geometry import TileSpec
from tcgn_mil.types.tiles import TileSet


def tile_set(
    coords: np.ndarray, spec: TileSpec, slide: str, patient: str = "", **values: Any
) -> TileSet:
    """Make tiles that are all tissue, on a slide that is large enough for them."""
    size = int(coords.max(initial=0)) + 10_000
    fractions = np.ones(len(coords), np.float32)
    return TileSet(slide, coords.astype(np.int64), fractions, spec, (size, size), patient, **values)
