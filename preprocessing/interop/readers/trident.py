"""Reader of TRIDENT's tile files (Zhang et al. 2025): ``patches/{slide}_patches.h5``."""

from __future__ import annotations

from pathlib import Path

import h5py

from tcgn_mil.preprocessing.interop.readers import base

NAME = "trident"


def is_trident(file: h5py.File) -> bool:
    """Return whether a file has TRIDENT's attribute `patch_size_level0`."""
    return base.has_coords(file) and "patch_size_level0" in file["coords"].attrs


def read_trident(file: h5py.File, path: str | Path) -> base.LaidTiles:
    """Read a TRIDENT file.

    Its magnifications are nominal and are not used: `patch_size_level0` is the side of a tile in
    level-0 pixels, and `patch_size` and `overlap` are in pixels of the patch.
    """
    attributes = base.TileAttributes(file, NAME, path)
    side = attributes.number("patch_size", least=1, most=base.MAX_SIDE_PX)
    overlap = attributes.number("overlap", least=0, most=side - 1, default=0.0)
    size = attributes.size("level0_width", "level0_height")
    return base.LaidTiles(
        NAME,
        base.read_coords(file, path),
        level0_px=attributes.number("patch_size_level0", least=1, most=base.MAX_SIDE_PX),
        tile_px=round(side),
        stride_px=round(side - overlap),
        name=attributes.text("name"),
        # The size is stored as a number of pixels of level 0, so it has no tolerance.
        slide_size=None if size is None else base.ApproximateSize(size, tolerance_px=0.0),
    )


LAYOUT = base.TileLayout(NAME, is_trident, read_trident)
