"""Make a small picture of tissue and values on it, for the maps of the gallery."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PICTURE_PX = 300  # side of the picture
LEVEL0_PX = 6000  # side of the slide that it stands for
TILE_PX = 400  # side of a tile at level 0
MPP = 0.5


def tissue_picture() -> NDArray[np.uint8]:
    """Return (300, 300, 3) uint8: a round piece of pink tissue with a dark cluster of nuclei."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:PICTURE_PX, :PICTURE_PX] / PICTURE_PX - 0.5
    inside = np.hypot(x, y) < 0.44
    density = 0.02 + 0.25 * np.exp(-((x - 0.1) ** 2 + (y + 0.1) ** 2) / 0.02)
    nuclei = generator.uniform(size=x.shape) < density
    picture = np.full((PICTURE_PX, PICTURE_PX, 3), 245, np.uint8)
    picture[inside] = (222, 160, 195)
    picture[inside & nuclei] = (90, 60, 140)
    return picture


def tile_corners() -> NDArray[np.int64]:
    """Return (N, 2) top-left corners of the tiles that are on the tissue, in level-0 pixels."""
    steps = np.arange(0, LEVEL0_PX, TILE_PX)
    corners = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    away = np.hypot(*(corners + TILE_PX / 2 - LEVEL0_PX / 2).T)
    kept: NDArray[np.int64] = corners[away < 0.44 * LEVEL0_PX]
    return kept


def cluster_score(places: NDArray[np.floating], side: float) -> NDArray[np.float64]:
    """Return how near places, (N, 2), of a picture of this side are to the cluster, 0 to 1."""
    x, y = (places / side - 0.5).T
    score: NDArray[np.float64] = np.exp(-((x - 0.1) ** 2 + (y + 0.1) ** 2) / 0.02)
    return score
