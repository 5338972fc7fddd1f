"""Tests of the registry of slide formats: a format is added from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.names import list_slides
from tcgn_mil.preprocessing.slides.readers import (
    READERS,
    SlideFile,
    SlideReader,
    open_slide,
    register_slide_reader,
    slide_suffixes,
    without_slide_suffix,
)
from tcgn_mil.preprocessing.slides.readers.base import Slide, choose_mpp
from tcgn_mil.preprocessing.slides.table import find_slides


class NumpySlide(Slide):
    """A slide of one level in a .npy file."""

    def __init__(self, path: Path, mpp: float | None, fallback_mpp: float | None) -> None:
        self.path, self.mpp = path, choose_mpp(None, mpp, fallback_mpp, path=path)
        self.pixels = np.load(path)
        self.size = self.pixels.shape[1], self.pixels.shape[0]
        self.level_sizes, self.level_downsamples = (self.size,), (1.0,)

    def _read(self, x0: int, y0: int, level: int, width_px: int, height_px: int) -> np.ndarray:
        return self.pixels[y0 : y0 + height_px, x0 : x0 + width_px]

    def close(self) -> None:
        del self.pixels


@pytest.fixture
def _registry() -> Iterator[None]:
    before = dict(READERS)
    yield
    READERS.clear()
    READERS.update(before)


@pytest.mark.usefixtures("_registry")
def test_door_a_slide_format_is_added_from_outside(tmp_path: Path) -> None:
    np.save(tmp_path / "S1.npy", np.full((30, 40, 3), 7, dtype=np.uint8))

    register_slide_reader(
        SlideReader("numpy", frozenset({".npy"}), lambda path: path.suffix == ".npy", NumpySlide)
    )

    (entry,) = find_slides(tmp_path, mpp=0.5)
    with entry.open() as slide:
        assert (entry.slide_id, slide.size, slide.mpp) == ("S1", (40, 30), 0.5)
        assert slide.thumbnail(5.0).shape == (3, 4, 3)
    assert without_slide_suffix("S1.npy") == "S1"
    (tmp_path / "manifest.csv").write_text("slide_id,patient_id\nS1.npy,P\n")
    assert list_slides(tmp_path / "manifest.csv")[0].slide_id == "S1"


@pytest.mark.usefixtures("_registry")
def test_the_last_reader_is_asked_first_and_a_name_is_taken_once(tmp_path: Path) -> None:
    np.save(tmp_path / "a.png", np.zeros((3, 3, 3), dtype=np.uint8))
    (tmp_path / "a.png.npy").rename(tmp_path / "a.png")
    for name in ("first", "second"):
        register_slide_reader(
            SlideReader(name, frozenset(), lambda path: path.suffix == ".png", NumpySlide)
        )
    assert list(READERS)[-2:] == ["first", "second"]
    with pytest.raises(InputError, match="slide format 'second' is registered already"):
        register_slide_reader(READERS["second"])
    with open_slide(tmp_path / "a.png", mpp=1) as slide:
        assert isinstance(slide, NumpySlide)


@pytest.mark.usefixtures("_registry")
def test_a_format_may_spread_a_slide_over_several_files(tmp_path: Path) -> None:
    for name in ("a.part", "b.part"):
        (tmp_path / name).touch()
    register_slide_reader(
        SlideReader(
            "parts",
            frozenset({".part"}),
            lambda _path: False,
            NumpySlide,
            lambda paths: [SlideFile(sorted(paths)[0], "whole")],
        )
    )
    (entry,) = find_slides(tmp_path)
    assert (entry.slide_id, entry.path.name) == ("whole", "a.part")


def test_files_of_no_known_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"pixels")
    with pytest.raises(InputError, match=r"a\.npy: is not a slide of a known format"):
        open_slide(tmp_path / "a.npy")
    assert ".npy" not in slide_suffixes()
