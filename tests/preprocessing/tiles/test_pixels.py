"""Tests of reading tiles: order, size, and the pyramid level that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.tiles.grid import lay_grid
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec


def laid(slide: Slide, patch: PatchSize) -> tuple[TileSpec, np.ndarray]:
    spec = TileSpec.for_slide(patch, slide_mpp=slide.mpp, level_downsamples=slide.level_downsamples)
    return spec, lay_grid(slide.size, spec, downsample=slide.level_downsamples[spec.read_level])


def test_batches_cover_all_tiles_in_order(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        spec, coords = laid(slide, PatchSize())
        batches = list(iter_tiles(slide, coords, spec, 64))
    assert [len(pixels) for pixels, _ in batches] == [64] * (len(coords) // 64) + [len(coords) % 64]
    assert np.array_equal(np.concatenate([part for _, part in batches]), coords)
    assert all(
        pixels.shape[1:] == (112, 112, 3) and pixels.dtype == np.uint8 for pixels, _ in batches
    )


@pytest.mark.parametrize(
    "patch", [PatchSize(112, 0.69), PatchSize(100, 0.5), PatchSize(80, 1.0), PatchSize(50, 2.2)]
)
def test_tiles_show_what_lies_at_their_place(
    pyramid: Path, painted: tuple[np.ndarray, np.ndarray], patch: PatchSize
) -> None:
    with open_slide(pyramid) as slide:
        spec, coords = laid(slide, patch)
        chosen = coords[len(coords) // 2 + 3 :][:2]
        ((pixels, _),) = iter_tiles(slide, chosen, spec, 8)
    side = round(spec.level0_px)
    for tile, (x, y) in zip(pixels, chosen.tolist(), strict=True):
        there = painted[0][y : y + side, x : x + side].astype(float)
        assert np.abs(tile.mean(axis=(0, 1)) - there.mean(axis=(0, 1))).max() < 2
        half = there[:, : side // 2].mean() - there[:, side // 2 :].mean()
        assert tile[:, : patch.px // 2].mean() - tile[:, patch.px // 2 :].mean() == pytest.approx(
            half, abs=3
        )


def test_level_pixels_are_not_interpolated(make_slide: Callable[..., Path]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    with open_slide(make_slide("noise.tiff", image)) as slide:
        spec, coords = laid(
            slide, PatchSize(77, 1.0)
        )  # level 1 as it is; the step of 154 px is even
        spec_odd, coords_odd = laid(
            slide, PatchSize(77, 1.003)
        )  # 154.46 px: corners would fall between its pixels
        assert spec.read_level == spec_odd.read_level == 1
        plain = np.concatenate([p for p, _ in iter_tiles(slide, coords, spec, 64)])
        odd = np.concatenate([p for p, _ in iter_tiles(slide, coords_odd, spec_odd, 64)])
    assert odd.std() == pytest.approx(plain.std(), rel=0.02)


def test_a_slide_of_another_resolution_is_refused(
    pyramid: Path, make_slide: Callable[..., Path]
) -> None:
    with open_slide(pyramid) as slide:
        spec, coords = laid(slide, PatchSize())
    other = make_slide("other.tiff", np.zeros((600, 600, 3), np.uint8), mpp=0.25)
    with (
        open_slide(other) as slide,
        pytest.raises(InputError, match=r"other\.tiff: its tiles were laid for .* 0\.5"),
    ):
        next(iter_tiles(slide, coords, spec, 8))
