"""The eight orientations of spots on an image, and when a wrong one raises an alarm."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tcgn_mil.preprocessing.sections.alignment import (
    SYMMETRIES,
    Alignment,
    Orientation,
    Symmetry,
    alignment_rows,
    apply_symmetry,
    measure_alignment,
)
from tcgn_mil.preprocessing.sections.readers import her2st
from tcgn_mil.preprocessing.tiles.settings import TISSUE_MPP
from tcgn_mil.preprocessing.tiles.tissue import find_tissue

SECTIONS = ("B4", "C2", "C3", "C4", "C5")
MPP = 8.0
WRONG = SYMMETRIES[1:]


def paint_section(
    width: int = 320, height: int = 260
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return glass with an asymmetric wedge of tissue in one corner, and spots on it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    tissue = (x > 30) & (y > 40) & (x / 170 + y / 220 < 1)
    image = np.full((height, width, 3), (240, 236, 242), dtype=np.uint8)
    stained = np.where(
        rng.random((height, width, 1)) < 0.4, np.uint8([88, 60, 140]), np.uint8([214, 150, 190])
    )
    image[tissue] = stained[tissue]
    spots = np.array(
        [(i, j) for j in range(5, height, 12) for i in range(5, width, 12) if tissue[j, i]]
    )
    return image, spots.astype(np.float64)


def measure(image: NDArray[np.uint8], spots: NDArray[np.float64]) -> Alignment:
    return measure_alignment(image, find_tissue(image, MPP), spots, np.arange(len(spots)), mpp=MPP)


def inverse(symmetry: Symmetry) -> Symmetry:
    """Each symmetry of the square is its own inverse, except for the two quarter turns."""
    if symmetry.swap and symmetry.mirror_x != symmetry.mirror_y:
        return next(
            one
            for one in SYMMETRIES
            if one.swap and one.mirror_x == symmetry.mirror_y != one.mirror_y
        )
    return symmetry


def test_the_true_orientation_is_the_darkest_and_lies_on_tissue() -> None:
    found = measure(*paint_section())
    assert found.verdict == "fits"
    assert found.alarm() is None
    assert found.given.tissue > 0.95
    assert found.margin > 1.1
    assert [one.name for one in found.orientations] == [one.name for one in SYMMETRIES]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda symmetry: symmetry.name)
def test_a_wrong_orientation_is_an_alarm_that_names_the_right_one(wrong: Symmetry) -> None:
    image, spots = paint_section()
    height, width = image.shape[:2]
    turned_frame = (
        (height, width) if wrong.swap else (width, height)
    )  # the spots of an image that was turned
    placed = apply_symmetry(spots, wrong, *turned_frame)
    found = measure(image, placed)
    assert found.verdict == "misplaced"
    assert found.best_other.name == inverse(wrong).name
    assert found.best_other.tissue > 0.95
    assert found.best_other.off_image == 0
    assert inverse(wrong).name in str(found.alarm())


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=lambda symmetry: symmetry.name)
@given(
    width=st.integers(1, 5000), height=st.integers(1, 5000), x=st.floats(0, 1), y=st.floats(0, 1)
)
@settings(max_examples=25, deadline=None)
def test_a_symmetry_and_its_inverse_lead_back(
    symmetry: Symmetry, width: int, height: int, x: float, y: float
) -> None:
    before = np.array([[x * width, y * height]])
    frame = (height, width) if symmetry.swap else (width, height)
    after = apply_symmetry(before, symmetry, *frame)
    assert (after >= -1e-9).all()
    assert (after <= np.array(frame) + 1e-9).all()
    assert np.allclose(apply_symmetry(after, inverse(symmetry), width, height), before)


def test_symmetries_move_the_pixels_that_numpy_moves() -> None:
    """A spot on a pixel stays on it when image and spot are turned alike, off-by-one included."""
    image = np.arange(12).reshape(3, 4)
    turned = {
        "x mirrored": image[:, ::-1],
        "y mirrored": image[::-1],
        "turned by 180°": np.rot90(image, 2),
        "x and y swapped": image.T,
        "turned by 90° clockwise": np.rot90(image, -1),
        "turned by 90° counterclockwise": np.rot90(image),
        "x and y swapped and mirrored": np.rot90(image, 2).T,
    }
    y, x = np.mgrid[:3, :4]
    for symmetry in WRONG:
        other = turned[symmetry.name]
        placed = apply_symmetry(
            np.column_stack([x.ravel(), y.ravel()]) + 0.5, symmetry, other.shape[1], other.shape[0]
        )
        columns, rows = np.floor(placed).astype(int).T
        assert np.array_equal(other[rows, columns], image.ravel())


def test_a_section_that_fills_its_image_is_undecided() -> None:
    rng = np.random.default_rng(1)
    image = np.where(
        rng.random((200, 200, 1)) < 0.4, np.uint8([88, 60, 140]), np.uint8([214, 150, 190])
    )
    spots = np.array([(i, j) for j in range(10, 195, 12) for i in range(10, 195, 12)], dtype=float)
    found = measure(image, spots)
    assert found.verdict == "undecided"
    assert found.alarm() is None


def test_a_darker_place_alone_is_no_alarm() -> None:
    """Spots on pale tissue stay, although dark tissue lies where their mirror image would be."""
    rng = np.random.default_rng(2)
    image = np.where(
        rng.random((200, 240, 1)) < 0.3, np.uint8([150, 110, 180]), np.uint8([225, 180, 205])
    )
    image[:, 120:] = (image[:, 120:] * 0.5).astype(np.uint8)
    spots = np.array([(i, j) for j in range(20, 180, 12) for i in range(20, 110, 12)], dtype=float)
    found = measure(image, spots)
    assert found.margin < 0.8
    assert found.given.tissue == pytest.approx(1, abs=0.05)
    assert found.verdict == "undecided"


def test_few_spots_decide_nothing() -> None:
    image, spots = paint_section()
    assert measure(image, spots[:10]).verdict == "undecided"


def test_a_black_border_is_not_taken_for_tissue() -> None:
    """Dark cloth under the slide, where mirrored spots would be, raises no alarm."""
    image, spots = paint_section()
    image[:, 260:] = (24, 18, 16)
    image[230:] = (24, 18, 16)
    found = measure(image, spots)
    assert found.verdict == "fits"


def test_spots_off_the_image_are_counted_and_count_as_glass() -> None:
    image, spots = paint_section()
    found = measure(image, spots + np.array([250, 0]))
    assert found.given.off_image > 0
    assert found.given.darkness < 0.1


def test_rows_rank_by_darkness_and_constant_counts_have_no_correlation() -> None:
    image, spots = paint_section()
    found = measure_alignment(image, find_tissue(image, MPP), spots, np.ones(len(spots)), mpp=MPP)
    rows = alignment_rows("A1", found.orientations)
    assert sorted(int(str(row["rank"])) for row in rows) == list(range(1, 9))
    assert rows[0]["rank"] == 1
    assert all(np.isnan(one.correlation) for one in found.orientations)


def test_the_alarm_says_how_much_darker() -> None:
    others = tuple(Orientation(one.name, 0.1, 0.2, 0, 0.0) for one in SYMMETRIES[2:])
    given_one, better = (
        Orientation("as given", 0.2, 0.5, 0, 0.3),
        Orientation("x mirrored", 0.3, 0.9, 0, -0.3),
    )
    alarm = Alignment((given_one, better, *others), 100).alarm()
    assert alarm is not None
    assert (
        "with the spots x mirrored 90% of them lie on tissue, not 50%, and the image under" in alarm
    )
    assert "darker (0.30, not 0.20)" in alarm


@pytest.mark.realdata
@pytest.mark.parametrize("section", SECTIONS)
def test_real_sections_raise_no_alarm_and_each_wrong_orientation_does(
    real_data: Path, section: str
) -> None:
    raw = her2st.read_section(her2st.find_section_files(real_data / "her2st", [section])[0])
    with raw.image.open(raw.mpp) as slide:
        thumbnail = slide.thumbnail(TISSUE_MPP)
    tissue = find_tissue(thumbnail, TISSUE_MPP)
    height, width = tissue.shape
    spots = raw.centres() * raw.mpp / TISSUE_MPP
    found = measure_alignment(thumbnail, tissue, spots, raw.totals(), mpp=TISSUE_MPP)
    assert found.verdict == "fits"
    assert found.margin > 1.1
    for wrong in WRONG:  # swapped x and y among them
        frame = (height, width) if wrong.swap else (width, height)
        placed = apply_symmetry(spots, wrong, *frame)
        misplaced = measure_alignment(thumbnail, tissue, placed, raw.totals(), mpp=TISSUE_MPP)
        assert misplaced.verdict == "misplaced", wrong.name
        assert misplaced.best_other.name == inverse(wrong).name


@pytest.mark.realdata
@pytest.mark.parametrize("factor", [0.2, 0.5, 0.8, 1.25, 2.0])
def test_a_real_section_whose_image_was_scaled_raises_the_alarm_of_scale(
    real_data: Path, factor: float
) -> None:
    raw = her2st.read_section(her2st.find_section_files(real_data / "her2st", ["C2"])[0])
    with raw.image.open(raw.mpp) as slide:
        thumbnail = slide.thumbnail(TISSUE_MPP)
    size = (round(thumbnail.shape[1] * factor), round(thumbnail.shape[0] * factor))
    scaled = np.asarray(cv2.resize(thumbnail, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    found = measure_alignment(
        scaled,
        find_tissue(scaled, TISSUE_MPP),
        raw.centres() * raw.mpp / TISSUE_MPP,
        raw.totals(),
        mpp=TISSUE_MPP,
    )
    assert found.scale == pytest.approx(factor, rel=0.05)
    assert "scale of spots and image does not fit" in str(found.alarm())
