"""Writing a whole image as a pyramidal, tiled TIFF with its resolution, which OpenSlide and QuPath open as a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.artefacts import atomic_path
from tcgn_mil.contracts import check_mpp

TILE_SIDE_PX = 256
SMALLEST_LEVEL_PX = 512


def write_pyramid(path: str | Path, image: NDArray[np.uint8], *, mpp: float, quality: int = 85) -> None:
    """Write `image` (H, W, 3) uint8 as JPEG tiles in levels of 1, 2, 4, ... times downsampling.

    Parameters
    ----------
    path
        Ends in .tiff or .tif; written atomically.
    mpp
        Micrometres per pixel, stored as the TIFF resolution in pixels per centimetre.
    quality
        JPEG quality, 1 to 100.
    """
    import tifffile
    from PIL import Image

    check_mpp(mpp, path=path)
    levels = [image]
    while max(levels[-1].shape[:2]) // 2 >= SMALLEST_LEVEL_PX:
        height, width = (max(1, side // 2) for side in levels[-1].shape[:2])
        levels.append(np.asarray(Image.fromarray(levels[-1]).resize((width, height), Image.Resampling.BOX)))
    options = dict(
        photometric="rgb",
        tile=(TILE_SIDE_PX, TILE_SIDE_PX),
        compression="jpeg",
        compressionargs={"level": quality},
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary) as writer:
        for index, level in enumerate(levels):
            per_cm = 1e4 / (mpp * 2**index)
            writer.write(level, resolution=(per_cm, per_cm), subfiletype=int(index > 0), **options)
