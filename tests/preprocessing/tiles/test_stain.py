"""Tests of stain normalisation.

Two stainings of one tissue become alike, glass stays white, and nothing changes without it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.io.tile_files import read_tile_settings, read_tiles
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.preprocessing.tiles.settings import StainTarget, TileSettings
from tcgn_mil.preprocessing.tiles.stain import METHODS, fit_stain, stain_target, stain_transform
from tcgn_mil.preprocessing.tiles.tiling import tile_path
from tcgn_mil.types.tiles import Stain

PURPLE = np.array(
    [[0.65, 0.70, 0.29], [0.27, 0.57, 0.78]]
)  # haematoxylin and eosin of one laboratory, each R, G, B
PINK = np.array([[0.55, 0.76, 0.35], [0.10, 0.95, 0.30]])  # and of another


def stained(
    stains: NDArray[np.float64], strength: tuple[float, float], side: int = 256
) -> NDArray[np.uint8]:
    """Paint the same tissue in given stains: nuclei on stroma, and a third of glass."""
    rng = np.random.default_rng(0)
    nuclei = np.zeros((side, side), np.uint8)
    for x, y in rng.integers(0, (side, side * 2 // 3), size=(side * side // 400, 2)).tolist():
        cv2.circle(nuclei, (x, y), 6, 1, -1)
    tissue = np.zeros((side, side))
    tissue[: side * 2 // 3] = 1
    haematoxylin = (0.1 + nuclei * rng.uniform(0.6, 1.4, nuclei.shape)) * tissue * strength[0]
    eosin = rng.uniform(0.3, 0.9, nuclei.shape) * tissue * (1 - 0.8 * nuclei) * strength[1]
    density = haematoxylin[..., None] * stains[0] + eosin[..., None] * stains[1]
    return np.clip(np.rint(240 * np.exp(-density)), 0, 255).astype(np.uint8)


FIRST, SECOND = stained(PURPLE, (1.6, 1.0)), stained(PINK, (1.0, 1.5))


@pytest.fixture(params=METHODS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> StainTarget:
    Image.fromarray(stained((PURPLE + PINK) / 2, (1.3, 1.2))).save(tmp_path / "reference.png")
    return stain_target(request.param, tmp_path / "reference.png")


def normalised(image: NDArray[np.uint8], target: StainTarget) -> NDArray[np.uint8]:
    return stain_transform(fit_stain(image, target))(image[None])[0]


def distance(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float(np.abs(first.astype(float) - second).mean())


def mean_colours_apart(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float(np.abs(first[:170].mean(axis=(0, 1)) - second[:170].mean(axis=(0, 1))).max())


def test_two_stainings_of_one_tissue_come_together(target: StainTarget) -> None:
    """Macenko exchanges the stains, so pixels agree; Reinhard scales channels, so means agree."""
    apart = distance if target.method == "macenko" else mean_colours_apart
    first, second = normalised(FIRST, target), normalised(SECOND, target)
    assert apart(first, second) < apart(FIRST, SECOND) / 5
    reference = stained((PURPLE + PINK) / 2, (1.3, 1.2))
    assert apart(first, reference) < apart(FIRST, reference) / 2
    assert apart(second, reference) < apart(SECOND, reference) / 2


@pytest.mark.parametrize("image", [FIRST, SECOND])
def test_glass_stays_near_white(target: StainTarget, image: NDArray[np.uint8]) -> None:
    glass = normalised(image, target)[-60:]
    assert glass.min() >= 232
    assert np.ptp(glass.reshape(-1, 3).mean(axis=0)) < 4  # and takes on no tint
    white = np.full((1, 8, 8, 3), 255, np.uint8)
    assert stain_transform(fit_stain(image, target))(white).min() >= 240


def test_a_slide_like_the_reference_hardly_changes(target: StainTarget) -> None:
    reference = stained((PURPLE + PINK) / 2, (1.3, 1.2))
    assert distance(normalised(reference, target), reference) < (
        3 if target.method == "macenko" else 1
    )


def test_the_published_reference_needs_no_image() -> None:
    target = stain_target("macenko")
    assert target.numbers[:6] == (0.5626, 0.2159, 0.7201, 0.8012, 0.4062, 0.5581)
    assert (
        distance(normalised(FIRST, target), normalised(SECOND, target))
        < distance(FIRST, SECOND) / 3
    )
    with pytest.raises(InputError, match=r"no published reference.*--stain-reference"):
        stain_target("reinhard")


def test_a_batch_is_its_images_one_by_one(target: StainTarget) -> None:
    transform = stain_transform(fit_stain(FIRST, target))
    batch = np.stack([FIRST[:112, :112], FIRST[40:152, 30:142]])
    assert np.array_equal(
        transform(batch), np.concatenate([transform(image[None]) for image in batch])
    )
    assert transform(batch).dtype == np.uint8


@pytest.mark.parametrize("method", METHODS)
def test_what_has_too_little_stain_is_refused_with_the_fix(method: str, tmp_path: Path) -> None:
    Image.fromarray(FIRST).save(tmp_path / "reference.png")
    target = stain_target(method, tmp_path / "reference.png")
    with pytest.raises(InputError, match=r"too little stain to fit .*Fix: tile without --stain"):
        fit_stain(np.full((100, 100, 3), 235, np.uint8), target)
    Image.new("RGB", (300, 300), "white").save(tmp_path / "white.png")
    with pytest.raises(
        InputError, match=r"white\.png: too little stain.*Fix: give an image of well-stained tissue"
    ):
        stain_target(method, tmp_path / "white.png")
    with pytest.raises(InputError, match=r"no\.png: no such slide or image"):
        stain_target(method, tmp_path / "no.png")


def test_one_colour_is_not_two_stains() -> None:
    rng = np.random.default_rng(0)
    single = stained(np.stack([PURPLE[0], PURPLE[0]]), (1.0, 1.0)) + rng.integers(
        0, 2, FIRST.shape, dtype=np.uint8
    )
    with pytest.raises(InputError, match="the pixels show only one stain"):
        fit_stain(single, stain_target("macenko"))


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(InputError, match="unknown stain normalisation 'vahadane'"):
        stain_target("vahadane")


def test_identity_is_the_reference_not_the_slide() -> None:
    target = stain_target("macenko")
    first, second = fit_stain(FIRST, target), fit_stain(SECOND, target)
    assert first != second
    assert first.identity == second.identity
    other = replace(first, target=(*first.target[:7], 2.0))
    assert other.identity != first.identity
    with pytest.raises(InputError, match="not finite"):
        Stain("macenko", "x", first.target, (float("nan"),) * 8)


class TestTiling:
    @pytest.fixture
    def entry(self, pyramid: Path) -> SlideEntry:
        return SlideEntry("painted", "p", pyramid)

    def test_off_by_default_bit_for_bit(self, entry: SlideEntry, tmp_path: Path) -> None:
        tile_cohort([entry], TileSettings(), tmp_path)
        tiles = read_tiles(tile_path(tmp_path, "painted"))
        assert tiles.stain is None
        with h5py.File(tile_path(tmp_path, "painted")) as file:
            assert "stain" not in file.attrs
            assert "stain" not in file.attrs["settings"]
        with open_slide(entry.path) as slide:
            ((plain, _),) = iter_tiles(slide, tiles.coords[:3], tiles.spec, 8)
            ((same, _),) = iter_tiles(slide, tiles.coords[:3], tiles.spec, 8, stain=tiles.stain)
        assert np.array_equal(plain, same)

    def test_it_is_fitted_once_a_slide_and_recorded(
        self, entry: SlideEntry, tmp_path: Path
    ) -> None:
        settings = TileSettings(stain=stain_target("macenko"))
        for name in "ab":
            tile_cohort([entry], settings, tmp_path / name)
        tiles = read_tiles(tile_path(tmp_path / "a", "painted"))
        assert tiles.stain == read_tiles(tile_path(tmp_path / "b", "painted")).stain
        assert (tiles.stain.method, tiles.stain.reference) == ("macenko", "published")
        assert (
            read_tile_settings(tile_path(tmp_path / "a", "painted"))[1]["stain"]["method"]
            == "macenko"
        )
        with open_slide(entry.path) as slide:
            ((plain, _),) = iter_tiles(slide, tiles.coords[:3], tiles.spec, 8)
            ((changed, _),) = iter_tiles(slide, tiles.coords[:3], tiles.spec, 8, stain=tiles.stain)
        assert np.array_equal(changed, stain_transform(tiles.stain)(plain))
        assert distance(plain, changed) > 2

    def test_resume_redoes_a_slide_when_it_changes(self, entry: SlideEntry, tmp_path: Path) -> None:
        plain, chosen = TileSettings(), TileSettings(stain=stain_target("macenko"))
        for settings in (plain, chosen, chosen, plain):
            assert tile_cohort([entry], settings, tmp_path).done == ["painted"]
            stain = read_tiles(tile_path(tmp_path, "painted")).stain
            assert (stain is None) == (settings is plain)

    def test_a_slide_whose_stain_cannot_be_fitted_costs_a_row(
        self, entry: SlideEntry, painted: tuple[np.ndarray, np.ndarray], tmp_path: Path
    ) -> None:
        darkness = (255 - painted[0].mean(axis=2, keepdims=True)) / 255
        eosin = (255 * np.exp(-darkness * [0.6, 2.4, 1.5])).astype(np.uint8)
        pale = 255 - (255 - painted[0].astype(int)) // 4
        Image.fromarray(eosin).save(tmp_path / "eosin.png")
        Image.fromarray(pale.astype(np.uint8)).save(tmp_path / "pale.png")
        entries = [
            SlideEntry(name, "p", tmp_path / f"{name}.png", mpp=0.5) for name in ("eosin", "pale")
        ]
        done, failures = tile_cohort(
            [*entries, entry],
            TileSettings(min_tissue=0, stain=stain_target("macenko")),
            tmp_path / "out",
        )
        assert done == ["painted"]
        assert [failure.slide for failure in failures] == ["eosin", "pale"]
        assert "only one stain" in failures[0].reason
        assert "too little stain" in failures[1].reason
        assert all("--stain" in failure.likely_fix for failure in failures)
