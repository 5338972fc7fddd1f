"""Tests of tile quality with planted blur, ink and folds, which the verdicts must name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.benchmarks.tissue import judge_slide, plant_slide
from tcgn_mil.experiments.demo.synthetic.slide_artefacts import plant_blur, plant_fold, plant_pen
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.grid import tissue_fractions
from tcgn_mil.preprocessing.tiles.quality import measure_quality
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import judge, tile_slide
from tcgn_mil.preprocessing.tiles.tissue import survey
from tcgn_mil.types.tile_geometry import PatchSize
from tcgn_mil.types.tiles import VERDICTS, TileQuality, TileSet

SIDE = 2400  # px of 0.5 µm


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.uint8]:
    """Paint a picture that is all tissue: nuclei in the colours of two stains on textured pink."""
    rng = np.random.default_rng(3)
    image = np.empty((SIDE, SIDE, 3), np.uint8)
    image[:] = (222, 160, 200)
    for x, y in rng.integers(0, SIDE, (SIDE * SIDE // 700, 2)).tolist():
        cv2.ellipse(
            image,
            (x, y),
            (int(rng.integers(5, 10)), 5),
            float(rng.integers(180)),
            0,
            360,
            (95, 60, 140),
            -1,
        )
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def shares(mask: NDArray[np.bool_], tiles: TileSet, verdict: str) -> float:
    """Compute the share of tiles rejected with a verdict, among those half under the mask."""
    assert tiles.rejected is not None
    covered = (
        tissue_fractions(mask, tiles.rejected.coords, tiles.spec.level0_px, tiles.slide_size) >= 0.5
    )
    named = tiles.rejected.verdict == VERDICTS.index(verdict)
    kept = tissue_fractions(mask, tiles.coords, tiles.spec.level0_px, tiles.slide_size) >= 0.5
    return float((covered & named).sum() / (covered.sum() + kept.sum()))


@pytest.mark.parametrize(
    ("verdict", "plant"),
    [
        (
            "out of focus",
            lambda image, rng: plant_blur(image, np.ones((SIDE, SIDE), bool), 0.5, rng, sd_um=5.0),
        ),
        (
            "pen",
            lambda image, rng: plant_pen(
                image, np.ones((SIDE, SIDE), bool), 0.5, rng, ink="violet"
            ),
        ),
        (
            "pen",
            lambda image, rng: plant_pen(image, np.ones((SIDE, SIDE), bool), 0.5, rng, ink="green"),
        ),
        ("fold", lambda image, rng: plant_fold(image, np.ones((SIDE, SIDE), bool), 0.5, rng)),
    ],
)
def test_what_is_planted_is_left_out_by_name_and_little_else(
    tissue: NDArray[np.uint8],
    make_slide: Callable[..., Path],
    tmp_path: Path,
    verdict: str,
    plant: Callable,
) -> None:
    image = tissue.copy()
    mask = plant(image, np.random.default_rng(1))
    path = make_slide("planted.tiff", image)
    tiles = tile_slide(SlideEntry("planted", "P", path), TileSettings(), tmp_path / "tiles")
    assert shares(mask, tiles, verdict) >= 0.9
    assert tiles.rejected is not None
    far = cv2.dilate(mask.astype(np.uint8), np.ones((101, 101), np.uint8)) > 0
    stray = (
        tissue_fractions(far, tiles.rejected.coords, tiles.spec.level0_px, tiles.slide_size) == 0
    )
    assert stray.sum() <= 0.01 * len(tiles)
    stored = read_tiles(tmp_path / "tiles" / "planted.h5")
    assert stored.rejected is not None
    assert np.array_equal(stored.rejected.verdict, tiles.rejected.verdict)


def test_tissue_in_focus_is_kept_whatever_its_stain(
    tissue: NDArray[np.uint8], make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    for strength in (0.5, 1.0, 1.6):
        stained = np.rint(255 * (tissue / 255) ** strength).astype(np.uint8)
        path = make_slide(f"stain{strength}.tiff", stained)
        tiles = tile_slide(SlideEntry("s", "P", path), TileSettings(), tmp_path / str(strength))
        assert tiles.rejected is not None
        assert len(tiles.rejected) <= 0.01 * len(tiles)


def test_limits_decide_and_one_keeps_all(
    tissue: NDArray[np.uint8], make_slide: Callable[..., Path], tmp_path: Path
) -> None:
    blurred = cv2.GaussianBlur(tissue, (0, 0), 12)
    entry = SlideEntry("blurred", "P", make_slide("blurred.tiff", blurred))
    with pytest.raises(
        InputError, match=r"no usable tile: of \d+, \d+ show tissue.*\d+ out of focus.*--max-blur 1"
    ):
        tile_slide(entry, TileSettings(), tmp_path / "a")
    tiles = tile_slide(entry, TileSettings(max_blur=1), tmp_path / "b")
    assert tiles.rejected is not None
    assert len(tiles.rejected) == 0
    assert tiles.quality is not None
    assert np.nanmedian(tiles.quality.blur) > 0.9


def test_a_slide_too_coarse_to_tell_focus_is_kept(
    tissue: NDArray[np.uint8], make_slide: Callable[..., Path]
) -> None:
    with open_slide(make_slide("coarse.tiff", tissue[:600, :600], mpp=4.0)) as slide:
        thumbnail = slide.thumbnail(8.0)
        found = measure_quality(
            slide, *survey(thumbnail, 8.0), np.array([[0, 0], [100, 50]]), 112.0
        )
    assert np.isnan(found.focus).all()
    assert (found.blur == 0).all()
    spec = TileSettings(PatchSize(112, 4.0))
    assert (judge(found, spec) == 0).all()


def test_the_first_fault_names_a_tile() -> None:
    share = np.array([0, 0.5, 0.5, 0, 0], dtype=np.float32)
    quality = TileQuality(
        focus=np.full(5, np.nan, np.float32),
        blur=np.array([0, 1, 0, 1, 0], np.float32),
        pen=share,
        fold=np.array([0, 1, 0, 1, 1], np.float32),
    )
    assert [VERDICTS[code] for code in judge(quality, TileSettings())] == [
        "kept",
        "pen",
        "pen",
        "fold",
        "fold",
    ]


@pytest.mark.slow
def test_synthetic_slides_lose_their_artefacts_and_little_tissue(tmp_path: Path) -> None:
    """Repeat on two slides what experiments/results/preprocessing.md reports over 24."""
    rows = []
    for number in (0, 1):
        path = tmp_path / f"{number}.tiff"
        planted = plant_slide(number, path)
        rows += judge_slide(SlideEntry(path.stem, path.stem, path), planted, tmp_path / "tiles")
    totals = {"artefact": [0, 0], "clean tissue": [0, 0]}
    for row in rows:
        if row["method"] == "tcgn-mil" and row["tiles_with"] != "glass":
            total = totals["clean tissue" if row["tiles_with"] == "clean tissue" else "artefact"]
            total[0] += row["tiles"] - row["kept"]
            total[1] += row["tiles"]
    assert totals["artefact"][0] >= 0.95 * totals["artefact"][1] > 100
    assert totals["clean tissue"][0] <= 0.03 * totals["clean tissue"][1]
