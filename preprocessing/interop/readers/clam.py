"""Reader of CLAM's tile files.

Lu et al., Nature Biomedical Engineering 2021; ``patches/{slide}.h5`` of its create_patches.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.interop.readers import base

NAME = "clam"


def is_clam(file: h5py.File) -> bool:
    """Return whether a file has CLAM's attribute `patch_level`."""
    return base.has_coords(file) and "patch_level" in file["coords"].attrs


def read_clam(file: h5py.File, path: str | Path) -> base.LaidTiles:
    """Read a CLAM file.

    Its `patch_size` is in pixels of level `patch_level`, which is `downsample` times coarser than
    level 0. Its `level_dim` is the size of that level, so the size of level 0 is known only to
    within two pixels of that level.
    """
    attributes = base.TileAttributes(file, NAME, path)
    side = attributes.number("patch_size", least=1, most=base.MAX_SIDE_PX)
    shrunk = attributes.number("custom_downsample", least=0.01, most=1024, default=1.0)
    if shrunk != 1:
        # Tools that read this attribute disagree on whether patch_size is counted before or after
        # it, so that the field of a tile may be either of two sizes.
        raise InputError(
            f"has custom_downsample {shrunk:g}, so that the size of its tiles is not clear",
            path=path,
            fix="make the tiles without custom_downsample; or set the attribute to 1 if patch_size"
            " counts pixels of patch_level",
        )
    downsample = attributes.number("downsample", least=0.99, most=1024)
    stored = attributes.get("level_dim")
    level_size = np.asarray([] if stored is None else stored)
    slide_size = None
    if level_size.shape == (2,) and np.issubdtype(level_size.dtype, np.number):
        width, height = (round(float(pixels) * downsample) for pixels in level_size)
        slide_size = base.ApproximateSize((width, height), 2 * downsample)
    return base.LaidTiles(
        NAME,
        base.read_coords(file, path),
        level0_px=side * downsample,
        tile_px=round(side),
        stride_px=round(side),
        name=attributes.text("name"),
        slide_size=slide_size,
    )


LAYOUT = base.TileLayout(NAME, is_clam, read_clam)
