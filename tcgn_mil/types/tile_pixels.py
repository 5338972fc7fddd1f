"""Types of tile pixels: batches of pixels, and the interface of an object that reads them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.types.tiles import TileSet

TileBatches: TypeAlias = Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""Batches of tiles: pixels (B, tile_px, tile_px, 3) uint8 RGB, and level-0 corners (B, 2) int64."""


class TileReader(Protocol):
    """Interface of an object that reads the pixels of a slide's tiles.

    :class:`tcgn_mil.preprocessing.interop.tile_source.TileSource` is the implementation that reads
    slides. Code below `tcgn_mil.preprocessing` uses this interface, because it may not import from
    there.
    """

    def open(self, tiles: TileSet, batch_size: int) -> AbstractContextManager[TileBatches]:
        """Open the slide that `tiles` belong to, and give its tiles in batches."""
        ...
