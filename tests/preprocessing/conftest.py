"""Synthetic glass with tissue on it, for tests of readers, tissue finding and tiling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tcgn_mil.data.pyramids import write_pyramid

SLIDE_MPP = 0.5
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
