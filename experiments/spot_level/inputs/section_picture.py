"""Put the picture of a section together from the patches of its spots.

The files of ``tcgn-mil spots`` hold the patches and not the whole image, so that the picture can be
made wherever the spots are, and shows what the network saw. Between patches it is white.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tcgn_mil.experiments.runs.spot_map_figure import MappedSection
from tcgn_mil.experiments.spot_level.inputs.sections import SpotSection
from tcgn_mil.io.spot_files import read_patches

_LONGEST_PX = 420  # of the picture; a panel has about as many pixels in the PNG
_BATCH = 256  # patches in memory at a time


def mapped_section(section: SpotSection) -> MappedSection:
    """Return the positions of the spots of a section, and its picture.

    Parameters
    ----------
    section
        The section, without the spots that were left out.
    """
    spatial = section.spatial().astype(np.float64)
    side = section.patch.um / section.image_mpp
    left, top = spatial.min(axis=0) - side / 2
    right, bottom = spatial.max(axis=0) + side / 2
    scale = _LONGEST_PX / max(right - left, bottom - top)
    picture = np.full(
        (round((bottom - top) * scale) + 1, round((right - left) * scale) + 1, 3), 255, np.uint8
    )
    corners = np.rint((spatial - side / 2 - (left, top)) * scale).astype(int)
    # One pixel more, so that patches which touch leave no white line between them.
    shown_px = max(round(side * scale) + 1, 1)
    for start in range(0, len(spatial), _BATCH):
        rows = slice(start, start + _BATCH)
        patches = read_patches(section.spots.patches_path, section.rows[rows])
        for patch, (x, y) in zip(patches, corners[rows].tolist(), strict=True):
            place = picture[y : y + shown_px, x : x + shown_px]
            place[:] = _shrunk(patch, shown_px)[: place.shape[0], : place.shape[1]]
    extent = (left, left + picture.shape[1] / scale, top + picture.shape[0] / scale, top)
    return MappedSection(spatial, section.image_mpp, picture, extent)


def _shrunk(patch: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    return np.asarray(
        Image.fromarray(patch).resize((side_px, side_px), Image.Resampling.BOX), dtype=np.uint8
    )
