"""Synthetic glass with tissue on it, for tests of readers, tissue finding and tiling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from tcgn_mil.data.pyramids import write_pyramid

SLIDE_MPP = 0.5
HER2ST_STEP_PX = 40  # and µm, so that synthetic sections have 1 µm/px
GLASS_COLOUR = (226, 216, 232)  # as lavender as the her2st sections


def paint_slide(width: int = 2400, height: int = 1800, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(H, W, 3) image at `SLIDE_MPP` with one elliptic piece of tissue, and (H, W) where that is."""
    rng = np.random.default_rng(seed)
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = GLASS_COLOUR
    shape = np.zeros((height, width), dtype=np.uint8)
    cv2.ellipse(shape, (width // 2, height // 2), (width // 4, height // 4), 20, 0, 360, 1, -1)
    image[shape > 0] = (214, 150, 190)
    for x, y in rng.integers(0, (width, height), size=(width * height // 900, 2)).tolist():
        if shape[y, x]:
            cv2.circle(image, (x, y), 8, (88, 60, 140), -1)
    noise = rng.normal(0, 3, size=image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), shape.astype(bool)


@pytest.fixture(scope="session")
def painted() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Image and tissue of one synthetic slide; do not write into it."""
    return paint_slide()


@pytest.fixture(scope="session")
def pyramid(painted: tuple[NDArray[np.uint8], NDArray[np.bool_]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a pyramidal TIFF with its resolution."""
    path = tmp_path_factory.mktemp("slides") / "painted.tiff"
    write_pyramid(path, painted[0], mpp=SLIDE_MPP, quality=95)
    return path


@pytest.fixture
def make_slide(tmp_path: Path) -> Callable[..., Path]:
    """Write an (H, W, 3) image as a pyramidal TIFF under a name."""

    def write(name: str, image: NDArray[np.uint8], mpp: float = SLIDE_MPP) -> Path:
        path = tmp_path / name
        write_pyramid(path, image, mpp=mpp, quality=90)
        return path

    return write


@pytest.fixture
def make_her2st(tmp_path: Path) -> Callable[..., Path]:
    """Write sections in the her2st layout: 6 x 5 spots, 40 px and µm apart, 8 genes, some x fractional.

    Spot 2x2 has no counts; spot 9x9 has counts but no position.
    """

    def write(*sections: str, seed: int = 0) -> Path:
        root = tmp_path / "her2st"
        rng = np.random.default_rng(seed)
        x, y = (grid.ravel() for grid in np.meshgrid(np.arange(1, 7), np.arange(1, 6)))
        spots = [f"{i}x{j}" for i, j in zip(x, y, strict=True)]
        for section in sections:
            folder = root / "ST-imgs" / section[0] / section
            for created in (folder, root / "ST-cnts", root / "ST-spotfiles"):
                created.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (30, 36, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
            Image.fromarray(pixels).save(folder / f"{section}_HE.png")
            counted = [name for name in spots if name != "2x2"] + ["9x9"]
            counts = pd.DataFrame(
                rng.poisson(3, (len(counted), 8)) + 1, index=counted, columns=[f"GENE{i}" for i in range(8)]
            )
            counts.to_csv(root / "ST-cnts" / f"{section}.tsv.gz", sep="\t")
            placed = pd.DataFrame(
                {"x": x + 0.02 * (x % 2), "y": y, "new_x": x, "new_y": y,
                 "pixel_x": x * HER2ST_STEP_PX + 3, "pixel_y": y * HER2ST_STEP_PX - 2, "selected": 1}
            )  # fmt: skip
            placed.to_csv(root / "ST-spotfiles" / f"{section}_selection.tsv", sep="\t", index=False)
        return root

    return write
