"""Tests of slide readers: positions of pixels, resolution, and damaged files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers import base as slide_readers
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.readers.base import on_white
from tcgn_mil.preprocessing.slides.readers.plain import PlainSlide
from tcgn_mil.preprocessing.slides.readers.scanned import ScannedSlide


@pytest.fixture
def plain(tmp_path: Path, painted: tuple[np.ndarray, np.ndarray]) -> Path:
    path = tmp_path / "plain.png"
    Image.fromarray(painted[0][:600, :800]).save(path, compress_level=1)
    return path


def test_a_pyramid_opens_with_its_resolution_and_levels(pyramid: Path) -> None:
    with open_slide(pyramid) as slide:
        assert isinstance(slide, ScannedSlide)
        assert slide.mpp == pytest.approx(0.5, rel=1e-6)
        assert slide.size == (2400, 1800)
        assert slide.level_sizes == ((2400, 1800), (1200, 900), (600, 450))
        assert slide.level_downsamples == (1, 2, 4)


def test_read_takes_level0_corners_and_level_sizes(
    pyramid: Path, painted: tuple[np.ndarray, np.ndarray]
) -> None:
    image = painted[0].astype(float)
    with open_slide(pyramid) as slide:
        fine = slide.read(1000, 600, 0, 64, 48)
        coarse = slide.read(1000, 600, 1, 64, 48)
    assert fine.dtype == np.uint8
    assert fine.shape == coarse.shape == (48, 64, 3)
    assert np.abs(fine - image[600:648, 1000:1064]).mean() < 6  # JPEG
    halved = image[600:696, 1000:1128].reshape(48, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(coarse - halved).mean() < 6


@pytest.mark.parametrize("kind", ["pyramid", "plain"])
def test_outside_the_slide_is_white(kind: str, request: pytest.FixtureRequest) -> None:
    with open_slide(request.getfixturevalue(kind), fallback_mpp=0.5) as slide:
        width, height = slide.size
        corner = slide.read(-10, -20, 0, 30, 40)
        assert (corner[:20] == 255).all()
        assert (corner[:, :10] == 255).all()
        assert np.abs(corner[20:, 10:].astype(int) - slide.read(0, 0, 0, 20, 20)).max() == 0
        beyond = slide.read(width - 5, height - 5, 0, 10, 10)
        assert (beyond[5:] == 255).all()
        assert (beyond[:5, :5] < 255).any()
        assert (slide.read(width + 100, 0, 0, 8, 8) == 255).all()


def test_transparency_is_put_on_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [0, 0, 0, 0], [0, 0, 200, 128]]], dtype=np.uint8)
    assert on_white(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 227]]]


def test_a_plain_image_reads_exactly(plain: Path, painted: tuple[np.ndarray, np.ndarray]) -> None:
    with open_slide(plain, mpp=0.5) as slide:
        assert isinstance(slide, PlainSlide)
        assert np.array_equal(slide.read(100, 50, 0, 300, 200), painted[0][50:250, 100:400])


@pytest.mark.parametrize("mpp", [0.5, 1.0, 3.3, 8.0, 40.0 / 3])
def test_thumbnail_in_bands_equals_the_whole_resampled(
    pyramid: Path, mpp: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_slide(pyramid) as slide:
        whole = slide.thumbnail(mpp)
        monkeypatch.setattr(slide_readers, "BAND_PX", 100_000)
        banded = slide.thumbnail(mpp)
    assert whole.shape == (round(1800 * 0.5 / mpp), round(2400 * 0.5 / mpp), 3)
    assert np.abs(whole.astype(float) - banded).mean() < 2


def test_thumbnail_shows_the_slide_the_right_way_round(
    pyramid: Path, painted: tuple[np.ndarray, np.ndarray]
) -> None:
    with open_slide(pyramid) as slide:
        thumbnail = slide.thumbnail(5.0).astype(float)
    expected = painted[0].reshape(180, 10, 240, 10, 3).mean(axis=(1, 3))
    assert np.abs(thumbnail - expected).mean() < 2


class TestResolution:
    def test_a_file_without_one_needs_it_given(self, plain: Path) -> None:
        with pytest.raises(
            InputError, match=r"plain\.png: the file does not say its resolution.*--mpp"
        ):
            open_slide(plain)

    def test_dpi_of_a_png_is_not_believed(self, tmp_path: Path) -> None:
        Image.new("RGB", (20, 20)).save(
            tmp_path / "a.png", dpi=(50_800, 50_800)
        )  # would be 0.5 µm/px
        with pytest.raises(InputError, match="does not say its resolution"):
            open_slide(tmp_path / "a.png")

    def test_a_printers_dpi_in_a_tiff_is_not_believed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        Image.new("RGB", (20, 20)).save(path, dpi=(72, 72))
        with pytest.raises(InputError, match=r"its tag of 352\.8 µm/px cannot be a scanner's"):
            open_slide(path)
        assert open_slide(path, mpp=0.25).mpp == 0.25

    def test_the_given_one_may_confirm_but_not_contradict_the_file(self, pyramid: Path) -> None:
        with open_slide(pyramid, mpp=0.505) as slide:
            assert slide.mpp == pytest.approx(0.5)
        with pytest.raises(InputError, match=r"the file says 0\.5 µm/px, but 0\.25 was given"):
            open_slide(pyramid, mpp=0.25)

    def test_the_fallback_yields_to_file_and_statement(self, pyramid: Path, plain: Path) -> None:
        with open_slide(pyramid, fallback_mpp=0.25) as slide:
            assert slide.mpp == pytest.approx(0.5)
        assert open_slide(plain, mpp=0.3, fallback_mpp=0.25).mpp == 0.3
        assert open_slide(plain, fallback_mpp=0.25).mpp == 0.25

    @pytest.mark.parametrize("mpp", [0, -1, 50, float("nan"), float("inf")])
    def test_implausible_ones_are_refused(self, plain: Path, mpp: float) -> None:
        with pytest.raises(InputError, match=r"outside 0\.05 to 20"):
            open_slide(plain, mpp=mpp)

    def test_oblong_pixels_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "oblong.tiff"
        tifffile.imwrite(
            path,
            np.zeros((512, 512, 3), np.uint8),
            tile=(256, 256),
            photometric="rgb",
            resolution=(20_000, 10_000),
            resolutionunit="CENTIMETER",
            metadata=None,
        )
        with pytest.raises(InputError, match=r"not square: 0\.5 by 1 µm"):
            open_slide(path)

    def test_an_untiled_tiff_has_that_of_its_tags(self, tmp_path: Path) -> None:
        path = tmp_path / "strips.tif"
        Image.new("RGB", (64, 64)).save(path, tiffinfo={282: 20_000.0, 283: 20_000.0, 296: 3})
        assert openslide.OpenSlide.detect_format(path) is None
        with open_slide(path) as slide:
            assert slide.mpp == pytest.approx(0.5)


class TestBadFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"gone\.svs: no such slide"):
            open_slide(tmp_path / "gone.svs")

    def test_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is a folder"):
            open_slide(tmp_path)

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.svs").touch()
        with pytest.raises(InputError, match="0 bytes"):
            open_slide(tmp_path / "a.svs")

    @pytest.mark.parametrize("suffix", [".svs", ".tiff", ".ndpi"])
    def test_text(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a{suffix}"
        path.write_text("this is not a slide\n" * 100)
        with pytest.raises(InputError, match=rf"a\{suffix}: is not (a slide|an image)"):
            open_slide(path, mpp=0.5)

    @pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.7])  # level 0 ends at 0.75
    def test_cut_off_pyramid_fails_at_opening_or_reading_with_its_name(
        self, tmp_path: Path, pyramid: Path, share: float
    ) -> None:
        path = tmp_path / "cut.tiff"
        whole = pyramid.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"cut\.tiff"), open_slide(path, mpp=0.5) as slide:
            slide.thumbnail(slide.mpp)

    def test_damage_found_while_reading_names_the_slide(
        self, tmp_path: Path, pyramid: Path
    ) -> None:
        path = tmp_path / "holed.tiff"
        content = bytearray(pyramid.read_bytes())
        with tifffile.TiffFile(pyramid) as file:
            offset, count = file.pages[0].dataoffsets[12], file.pages[0].databytecounts[12]
        content[offset : offset + count] = os.urandom(count)
        path.write_bytes(content)
        with open_slide(path) as slide, pytest.raises(InputError, match=r"holed\.tiff: is damaged"):
            slide.thumbnail(slide.mpp)

    def test_a_read_too_large_for_memory_is_refused(self, pyramid: Path) -> None:
        with (
            open_slide(pyramid) as slide,
            pytest.raises(InputError, match="too many to read at once"),
        ):
            slide.read(0, 0, 0, 100_000, 100_000)


@pytest.mark.realdata
class TestRealSlides:
    def test_aperio(self, real_data: Path) -> None:
        with open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as slide:
            assert slide.size == (2220, 2967)
            assert slide.mpp == pytest.approx(0.499)
            assert slide.thumbnail(8.0).shape == (185, 138, 3)

    def test_a_tcga_slide_without_resolution_must_be_told(self, real_data: Path) -> None:
        path = real_data / "slides" / "tcga-cr-7395-01a-01-ts1.svs"
        with pytest.raises(InputError, match="does not say its resolution"):
            open_slide(path)
        with open_slide(path, mpp=0.5) as slide:
            assert len(slide.level_sizes) == 2
            assert slide.read(2000, 1500, 1, 100, 100).std() > 10

    @pytest.mark.parametrize("share", [0.01, 0.6, 0.95])
    def test_a_truncated_svs_is_an_input_error(
        self, real_data: Path, tmp_path: Path, share: float
    ) -> None:
        whole = (real_data / "slides" / "A9K0_2.svs").read_bytes()
        path = tmp_path / "cut.svs"
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"cut\.svs"), open_slide(path) as slide:
            slide.thumbnail(slide.mpp)
