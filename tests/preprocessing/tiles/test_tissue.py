"""Tests of tissue finding on difficult glass: smears, ink, borders, all tissue, no tissue."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree
from skimage.filters import threshold_otsu

from tcgn_mil.preprocessing.slides.readers.plain import read_image
from tcgn_mil.preprocessing.slides.resample import resample_to
from tcgn_mil.preprocessing.tiles.grid import lay_grid, tissue_fractions
from tcgn_mil.preprocessing.tiles.ink import (
    find_ink,
    is_grey,
    optical_density,
    total_density,
)
from tcgn_mil.preprocessing.tiles.settings import TISSUE_MPP, TileSettings
from tcgn_mil.preprocessing.tiles.tissue import find_tissue
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

GREEN, BLUE, NAVY, BLACK = (20, 130, 70), (30, 60, 170), (45, 50, 140), (35, 32, 36)
RED, VIOLET, CYAN = (200, 25, 40), (70, 40, 150), (30, 150, 180)


@pytest.fixture(scope="module")
def thumbnail(painted: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return resample_to(painted[0], 150, 112)


@pytest.fixture(scope="module")
def truth(painted: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return resample_to(painted[1].astype(np.uint8) * 255, 150, 112) > 127


def agreement(mask: np.ndarray, truth: np.ndarray) -> float:
    """Compute the intersection over union."""
    return float((mask & truth).sum() / (mask | truth).sum())


def draw_stroke(
    image: np.ndarray, colour: tuple[int, int, int], *, width_px: int = 24
) -> np.ndarray:
    """Draw a stroke into `image`, over the glass and down through the tissue; return its mask."""
    layer = np.zeros(image.shape[:2], dtype=np.uint8)
    corner = (image.shape[1] - image.shape[1] // 5, 20)
    cv2.polylines(
        layer,
        [np.array([(10, 12), corner, (image.shape[1] // 2, image.shape[0] - 5)])],
        False,
        255,
        width_px,
    )
    opacity = cv2.GaussianBlur(layer, (0, 0), 1.0)[..., None] / 255 * 0.93
    image[:] = (image * (1 - opacity) + np.array(colour) * opacity).astype(np.uint8)
    return layer > 0


def test_textured_tissue_on_lavender_glass(thumbnail: np.ndarray, truth: np.ndarray) -> None:
    assert agreement(find_tissue(thumbnail, TISSUE_MPP), truth) > 0.93


@pytest.mark.parametrize("mpp", [4.0, 12.0])
def test_the_mask_hardly_depends_on_the_thumbnails_resolution(
    painted: tuple[np.ndarray, np.ndarray], thumbnail: np.ndarray, mpp: float
) -> None:
    other = find_tissue(resample_to(painted[0], round(1200 / mpp), round(900 / mpp)), mpp)
    same_size = resample_to(other.astype(np.uint8) * 255, 150, 112) > 127
    assert agreement(same_size, find_tissue(thumbnail, TISSUE_MPP)) > 0.9


def test_an_eosin_smear_is_glass(thumbnail: np.ndarray, truth: np.ndarray) -> None:
    rows, columns = np.indices(thumbnail.shape[:2])
    smear = np.exp(-((columns - 130) ** 2 + (rows - 40) ** 2) / (2 * 25.0**2))[..., None]
    stained = (thumbnail * (1 - smear * np.array([0.0, 0.15, 0.08]))).astype(np.uint8)
    mask = find_tissue(stained, TISSUE_MPP)
    assert agreement(mask, truth) > 0.9
    assert not mask[:50, 115:].any()


def test_smooth_dense_tissue_is_found_by_its_density() -> None:
    image = np.full((150, 150, 3), 240, dtype=np.uint8)
    image[40:110, 40:110] = (190, 120, 160)
    mask = find_tissue(image, TISSUE_MPP)
    assert mask[45:105, 45:105].all()
    assert mask.mean() < 0.3


@pytest.mark.parametrize("level", [255, 240, 200])
def test_bare_glass_has_none(level: int) -> None:
    noise = np.random.default_rng(0).normal(level, 2, size=(150, 150, 3))
    assert not find_tissue(np.clip(noise, 0, 255).astype(np.uint8), TISSUE_MPP).any()


def test_dust_has_none() -> None:
    image = np.full((150, 150, 3), 235, dtype=np.uint8)
    for x, y in [(20, 30), (80, 100), (120, 60)]:
        cv2.circle(image, (x, y), 2, (120, 90, 110), -1)
    assert not find_tissue(image, TISSUE_MPP).any()


@pytest.mark.parametrize("side", [8, 31])
def test_a_region_that_is_all_tissue_is_all_kept(side: int, thumbnail: np.ndarray) -> None:
    assert find_tissue(
        thumbnail[56 - side // 2 :, 75 - side // 2 :][:side, :side], TISSUE_MPP
    ).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2)])
def test_slivers_do_not_fail(shape: tuple[int, int]) -> None:
    assert find_tissue(np.full((*shape, 3), 230, np.uint8), TISSUE_MPP).shape == shape


@pytest.mark.parametrize("colour", [GREEN, BLUE, NAVY, BLACK, RED, VIOLET, CYAN])
def test_ink_is_no_tissue_and_costs_only_what_it_covers(
    thumbnail: np.ndarray, truth: np.ndarray, colour: tuple[int, int, int]
) -> None:
    marked = thumbnail.copy()
    stroke = draw_stroke(marked, colour)
    mask = find_tissue(marked, TISSUE_MPP)
    assert mask[stroke].mean() < 0.01
    assert (mask & ~truth).mean() < 0.02
    beside = cv2.dilate(stroke.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
    assert mask[truth & ~beside].mean() > 0.97


def test_a_slide_that_is_all_pen_has_no_tissue(thumbnail: np.ndarray) -> None:
    assert not find_tissue(np.full_like(thumbnail, GREEN), TISSUE_MPP).any()


def test_a_black_scanner_border_is_no_tissue(thumbnail: np.ndarray, truth: np.ndarray) -> None:
    framed = thumbnail.copy()
    framed[:12] = 0
    framed[:, -9:] = 3
    mask = find_tissue(framed, TISSUE_MPP)
    assert not mask[:12].any()
    assert not mask[:, -9:].any()
    assert agreement(mask, truth) > 0.9


def spot_recall_and_stray_tiles(
    mask: np.ndarray, spots: np.ndarray, slide_size: tuple[int, int], min_tissue: float
) -> tuple[float, float]:
    """Compute the share of spots in kept tiles, and of kept tiles over 400 px from any spot."""
    spec = TileSpec.for_slide(PatchSize(), slide_mpp=0.69, level_downsamples=[1.0])
    coords = lay_grid(slide_size, spec)
    kept = coords[tissue_fractions(mask, coords, spec.level0_px, slide_size) >= min_tissue]
    tiles = {tuple(tile) for tile in (kept // 112).tolist()}
    recall = np.mean([tuple(spot) in tiles for spot in (spots // 112).astype(int).tolist()])
    return float(recall), float((cKDTree(spots).query(kept + 56)[0] > 400).mean())


@pytest.mark.realdata
@pytest.mark.parametrize("section", ["B4", "C2", "C3", "C4", "C5"])
def test_her2st_spots_are_tissue_and_far_glass_is_not(real_data: Path, section: str) -> None:
    (path,) = (real_data / "her2st" / "ST-imgs" / section[0] / section).glob("*.jpg")
    image = read_image(path)
    height, width = image.shape[:2]
    thumbnail = resample_to(
        image, round(width * 0.69 / TISSUE_MPP), round(height * 0.69 / TISSUE_MPP)
    )
    table = pd.read_csv(
        real_data / "her2st" / "ST-spotfiles" / f"{section}_selection.tsv", sep="\t"
    )
    spots = table[["pixel_x", "pixel_y"]].to_numpy()
    ours = find_tissue(thumbnail, TISSUE_MPP)
    recall, stray = spot_recall_and_stray_tiles(
        ours, spots, (width, height), TileSettings().min_tissue
    )
    assert recall >= 0.98
    assert stray <= 0.02
    saturation = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV)[..., 1]
    otsu, _ = spot_recall_and_stray_tiles(
        saturation > threshold_otsu(saturation), spots, (width, height), TileSettings().min_tissue
    )
    assert recall > otsu
    assert not find_ink(optical_density(thumbnail), TISSUE_MPP).any.any()


@pytest.mark.realdata
def test_real_regions_of_twelve_organs_are_all_tissue_and_no_ink(real_data: Path) -> None:
    paths = sorted((real_data / "tcga_tiles").glob("*.png"))
    assert len(paths) == 26
    for path in paths:
        thumbnail = resample_to(read_image(path), 31, 31)
        assert find_tissue(thumbnail, TISSUE_MPP).all(), path.name


@pytest.mark.parametrize("rim", [(120, 118, 122), (60, 60, 62)])
def test_the_rims_of_bubbles_are_no_tissue(rim: tuple[int, int, int]) -> None:
    image = np.full((500, 700, 3), (226, 216, 232), np.uint8)
    for centre, radius in (((200, 200), 80), ((450, 280), 150)):
        cv2.circle(image, centre, radius, rim, 3, cv2.LINE_AA)
        cv2.circle(image, centre, radius - 4, (240, 238, 242), 2, cv2.LINE_AA)
    noise = np.random.default_rng(0).normal(0, 2, image.shape)
    assert not find_tissue(np.clip(image + noise, 0, 255).astype(np.uint8), TISSUE_MPP).any()


def test_density_is_summed_to_the_bit_as_by_numpy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    density = optical_density(pixels)
    table = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
    assert density.tobytes() == table[pixels].tobytes()
    assert total_density(density).tobytes() == density.sum(axis=2).tobytes()


@pytest.mark.parametrize(("coloured", "grey"), [(0, True), (3, True), (4, False), (900, False)])
def test_an_image_is_grey_if_less_than_1_in_10_000_pixels_has_a_colour(
    coloured: int, grey: bool
) -> None:
    pixels = np.full((200, 200, 3), 200, np.uint8)
    pixels.reshape(-1, 3)[-coloured or len(pixels) ** 2 :, 0] = 196
    assert is_grey(optical_density(pixels)) is grey
