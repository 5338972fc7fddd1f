"""Readers of other tools' tile files, one file each, and the registry in which they are found.

TRIDENT is asked first, then CLAM, then HEST: a TRIDENT file may also carry CLAM's attributes, and
both may hold pixels.
"""

from __future__ import annotations

from tcgn_mil.preprocessing.interop.readers import clam, hest, trident
from tcgn_mil.preprocessing.interop.readers.base import LaidTiles, TileLayout
from tcgn_mil.registry import add_entry

TILE_LAYOUTS: dict[str, TileLayout] = {}
"""Name -> layout. The layout that was registered last is asked first."""


def register_tile_layout(layout: TileLayout) -> None:
    """Add a layout, so that every command that reads tile files recognises it.

    Parameters
    ----------
    layout
        It is asked before those that are there already. A name that is taken raises InputError.
    """
    add_entry(TILE_LAYOUTS, layout.name, layout, what="tile layout")


for _layout in (hest.LAYOUT, clam.LAYOUT, trident.LAYOUT):
    register_tile_layout(_layout)

__all__ = ["TILE_LAYOUTS", "LaidTiles", "TileLayout", "register_tile_layout"]
