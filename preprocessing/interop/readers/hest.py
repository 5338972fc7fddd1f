"""Reader of the patch files of HEST (Jaume et al., NeurIPS 2024), which hold pixels as well."""

from __future__ import annotations

from pathlib import Path

import h5py

from tcgn_mil.preprocessing.interop.readers import base

NAME = "hest"


def is_hest(file: h5py.File) -> bool:
    """Return whether a file has coordinates and HEST's dataset of pixels, `img`."""
    return base.has_coords(file) and "img" in file


def read_hest(file: h5py.File, path: str | Path) -> base.LaidTiles:
    """Read the positions of a HEST file.

    Its pixels are not used: they are read from the slide like those of all other tiles, so that all
    are resampled in the same way. The name in the file is that of the HEST sample, which may differ
    from the slide's, so it is not compared with the slide.
    """
    attributes = base.TileAttributes(file, NAME, path, ("img", "coords"))
    side = attributes.number("patch_size_target", least=1, most=base.MAX_SIDE_PX)
    has_mpp = attributes.get("pixel_size") is not None
    return base.LaidTiles(
        NAME,
        base.read_coords(file, path),
        level0_px=attributes.number("patch_size_src", least=1, most=base.MAX_SIDE_PX),
        tile_px=round(side),
        stride_px=round(side),
        name=attributes.text("name"),
        name_is_slide=False,
        slide_mpp=attributes.number("pixel_size", least=0.01, most=100) if has_mpp else None,
    )


LAYOUT = base.TileLayout(NAME, is_hest, read_hest)
