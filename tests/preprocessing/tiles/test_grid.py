"""Tests of the grid of tiles and of averages over tiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tcgn_mil.preprocessing.tiles.grid import lay_grid, tissue_fractions
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec


def spec(
    slide_mpp: float, *, stride_px: int | None = None, levels: tuple[float, ...] = (1.0,)
) -> TileSpec:
    return TileSpec.for_slide(
        PatchSize(112, 0.69), slide_mpp=slide_mpp, level_downsamples=levels, stride_px=stride_px
    )


def test_grid_at_the_slides_own_resolution_is_plain() -> None:
    coords = lay_grid((1120, 336), spec(0.69))
    assert coords.dtype == np.int64
    assert coords.shape == (30, 2)
    assert coords[:11].tolist() == [[112 * i, 0] for i in range(10)] + [[0, 112]]


def test_rounding_does_not_add_up() -> None:
    coords = lay_grid((100_000, 400), spec(0.25))  # a tile is 309.12 px
    steps = np.diff(coords[:, 0])
    assert set(steps.tolist()) == {309, 310}
    assert coords[300, 0] == round(300 * 309.12)


def test_20x_and_40x_scans_get_the_same_fields() -> None:
    coarse, fine = lay_grid((10_000, 8_000), spec(0.5)), lay_grid((20_000, 16_000), spec(0.25))
    assert len(coarse) == len(fine)
    assert np.abs(coarse * 0.5 - fine * 0.25).max() <= 0.5


@pytest.mark.parametrize(
    ("size", "count"), [((111, 500), 0), ((112, 112), 1), ((223, 112), 1), ((224, 112), 2)]
)
def test_edges(size: tuple[int, int], count: int) -> None:
    assert lay_grid(size, spec(0.69)).shape == (count, 2)


def test_a_resolution_tag_rounded_in_its_last_digit_loses_no_tile() -> None:
    assert len(lay_grid((11_200, 112), spec(0.69 * (1 - 1e-7)))) == 100


def test_corners_fall_on_whole_pixels_of_the_level_read() -> None:
    chosen = spec(0.17, levels=(1.0, 4.0))
    assert chosen.read_level == 1
    coords = lay_grid((50_001, 30_003), chosen, downsample=4.0)
    assert (coords % 4 == 0).all()
    ideal = np.arange(len(np.unique(coords[:, 0]))) * chosen.level0_stride_px
    assert np.abs(np.unique(coords[:, 0]) - ideal).max() <= 2.5


@given(
    width=st.integers(1, 20_000),
    height=st.integers(1, 3_000),
    slide_mpp=st.floats(0.1, 1.0),
    stride_px=st.integers(30, 300),
    downsample=st.sampled_from([1.0, 2.0, 2.0005, 4.0]),
)
def test_every_tile_lies_inside_and_none_is_missing(
    width: int, height: int, slide_mpp: float, stride_px: int, downsample: float
) -> None:
    chosen = spec(slide_mpp, stride_px=stride_px)
    coords = lay_grid((width, height), chosen, downsample=downsample)
    assert (coords >= 0).all()
    assert (coords + chosen.level0_px <= np.array([width, height]) + 0.051).all()
    assert len(np.unique(coords, axis=0)) == len(coords)
    assert np.array_equal(coords, coords[np.lexsort((coords[:, 0], coords[:, 1]))])
    for side, found in ((width, np.unique(coords[:, 0])), (height, np.unique(coords[:, 1]))):
        possible = (
            math.floor((side - chosen.level0_px) / chosen.level0_stride_px) + 1
            if len(coords)
            else 0
        )
        assert len(found) >= possible


def naive_fraction(mask: np.ndarray, left: float, top: float, right: float, bottom: float) -> float:
    """Compute the share of a rectangle that mask pixels cover, pixel by pixel."""
    height, width = mask.shape
    covered = 0.0
    for row in range(height):
        for column in range(width):
            overlap_x = max(0.0, min(right, column + 1) - max(left, column))
            overlap_y = max(0.0, min(bottom, row + 1) - max(top, row))
            covered += overlap_x * overlap_y * bool(mask[row, column])
    return covered / ((right - left) * (bottom - top))


@given(
    mask=hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    size=st.tuples(st.integers(50, 300), st.integers(50, 300)),
    x=st.integers(0, 40),
    y=st.integers(0, 40),
    side=st.floats(3, 10),
)
def test_tissue_fraction_equals_the_area_counted_naively(
    mask: np.ndarray, size: tuple[int, int], x: int, y: int, side: float
) -> None:
    (fraction,) = tissue_fractions(mask, np.array([[x, y]]), side, size)
    fx, fy = mask.shape[1] / size[0], mask.shape[0] / size[1]
    expected = naive_fraction(mask, x * fx, y * fy, (x + side) * fx, (y + side) * fy)
    assert fraction == pytest.approx(expected, abs=1e-5)


def test_fractions_keep_x_and_y_apart() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[:, 10:] = True
    coords = np.array([[0, 0], [100, 0], [95, 0], [0, 50]])
    assert tissue_fractions(mask, coords, 10.0, (200, 100)).tolist() == pytest.approx(
        [0, 1, 0.5, 0]
    )


def test_no_tiles_no_fractions() -> None:
    assert tissue_fractions(
        np.ones((4, 4), bool), np.empty((0, 2), np.int64), 10.0, (40, 40)
    ).shape == (0,)
