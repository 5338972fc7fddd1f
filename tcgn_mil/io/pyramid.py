"""Write an image as a pyramidal, tiled TIFF that OpenSlide and QuPath open as a slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.types.tile_geometry import check_mpp

TILE_SIDE_PX = 256
MIN_LEVEL_PX = 512


def write_pyramid(
    path: str | Path,
    image: NDArray[np.uint8],
    *,
    mpp: float,
    quality: int = 85,
    description: str | None = None,
) -> None:
    """Write an image as JPEG tiles in levels of 1, 2, 4, ... times downsampling.

    Parameters
    ----------
    path
        File to write; its name ends in .tiff or .tif.
    image
        (H, W, 3) uint8.
    mpp
        Micrometres per pixel. Stored as the TIFF resolution, in pixels per centimetre.
    quality
        JPEG quality, 1 to 100.
    description
        ASCII text to store with the image, for example the name of its source.

    Raises
    ------
    InputError
        If `mpp` is not plausible.
    """
    import tifffile
    from PIL import Image

    check_mpp(mpp, path=path)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image is {image.dtype} {image.shape}; give uint8 (H, W, 3)")
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary) as writer:
        level, downsample = image, 1
        while True:
            per_cm = 1e4 / (mpp * downsample)
            writer.write(
                level,
                photometric="rgb",
                tile=(TILE_SIDE_PX, TILE_SIDE_PX),
                compression="jpeg",
                compressionargs={"level": quality},
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=int(downsample > 1),  # 1 marks a reduced image of the same slide
                description=description if downsample == 1 else None,
                metadata=None,
            )
            if max(level.shape[:2]) // 2 < MIN_LEVEL_PX:
                return
            height, width = (max(1, side // 2) for side in level.shape[:2])
            level = np.asarray(Image.fromarray(level).resize((width, height), Image.Resampling.BOX))
            downsample *= 2


def pyramid_description(path: str | Path) -> str | None:
    """Return the text that is stored with an image.

    Parameters
    ----------
    path
        A TIFF file.

    Returns
    -------
    str or None
        None if there is no text, or no complete TIFF file at `path`.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return file.pages.first.description or None
    except (OSError, tifffile.TiffFileError):
        return None
