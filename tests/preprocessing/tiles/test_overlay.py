"""Tests of overlay pictures: kept tiles stand out, and the caption fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tcgn_mil.preprocessing.tiles.overlay import (
    CAPTION_PX,
    add_caption,
    draw_tiles,
    overlay_mpp,
    write_picture,
)
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet


def tile_set(coords: list[tuple[int, int]]) -> TileSet:
    spec = TileSpec.for_slide(PatchSize(), slide_mpp=0.69, level_downsamples=[1.0])
    corners = np.array(coords, dtype=np.int64).reshape(-1, 2)
    return TileSet("slide-1", corners, np.ones(len(corners), np.float32), spec, (2240, 1120))


def test_kept_tiles_keep_their_colour_and_the_rest_is_washed_out() -> None:
    grey = np.full(
        (280, 560, 3), 100, dtype=np.uint8
    )  # a quarter of the slide's size: tiles of 28 px
    picture = draw_tiles(grey, np.zeros((28, 56), bool), tile_set([(112, 224)]))
    assert (picture[56 + 8 : 56 + 20, 28 + 8 : 28 + 20] == 100).all()
    assert (picture[10:20, 200:300] == 177).all()
    assert not np.array_equal(picture[56, 28:56], np.full((28, 3), 100))  # the tile's outline


def test_tissue_is_outlined_in_green() -> None:
    grey = np.full((280, 560, 3), 200, dtype=np.uint8)
    tissue = np.zeros((28, 56), bool)
    tissue[10:20, 20:40] = True
    picture = draw_tiles(grey, tissue, tile_set([])).astype(int)
    green = (picture[..., 1] - picture[..., 0] > 60) & (picture[..., 1] - picture[..., 2] > 40)
    assert green[95:105, 200:400].any()
    assert not green[150:, 450:].any()
    assert not green[130:160, 250:350].any()


def test_the_caption_widens_a_narrow_picture() -> None:
    narrow = np.zeros((50, 20, 3), dtype=np.uint8)
    picture = add_caption(narrow, "a long name of a slide: 12 tiles of 77.3 µm", mpp=8.0)
    assert picture.shape[0] == 50 + CAPTION_PX
    assert picture.shape[1] > 300
    assert np.array_equal(picture[:50, :20], narrow)
    strip = picture[50:].min(axis=(0, 2))
    assert strip[:5].min() == strip[-5:].min() == 255  # nothing is cut at the edges


def test_every_letter_of_the_caption_is_drawn() -> None:
    with_micro, without = (
        add_caption(np.zeros((9, 400, 3), np.uint8), text, mpp=1.0) for text in ("µ", "\u0378")
    )
    assert not np.array_equal(with_micro, without)  # U+0378 is drawn as the box of a missing letter


@pytest.mark.parametrize(
    ("size", "mpp", "expected"), [((100_000, 80_000), 0.25, 15.625), ((1000, 900), 0.25, 0.25)]
)
def test_overlays_are_never_finer_than_the_slide(
    size: tuple[int, int], mpp: float, expected: float
) -> None:
    assert overlay_mpp(size, mpp) == pytest.approx(expected)


def test_pictures_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", np.full((4, 5, 3), 7, np.uint8))
    assert np.asarray(Image.open(tmp_path / "a.png")).shape == (4, 5, 3)
    with pytest.raises(OSError, match="mode"):
        write_picture(tmp_path / "b.jpg", np.zeros((4, 5, 4), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
