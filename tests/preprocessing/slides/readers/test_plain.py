"""Tests of plain images, and of refusing images before they are decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers import plain as plain_images
from tcgn_mil.preprocessing.slides.readers.plain import image_size, read_image
from tcgn_mil.preprocessing.slides.readers.tiff_tags import first_page_um


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_lossless_images_come_back_exactly(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels).save(path)
    assert image_size(path) == (50, 30)
    assert np.array_equal(read_image(path), pixels)


def test_transparent_pixels_are_white(tmp_path: Path, pixels: np.ndarray) -> None:
    alpha = np.full((30, 50, 1), 255, dtype=np.uint8)
    alpha[:10] = 0
    Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(tmp_path / "a.png")
    out = read_image(tmp_path / "a.png")
    assert (out[:10] == 255).all()
    assert np.array_equal(out[10:], pixels[10:])


def test_grey_images_become_rgb(tmp_path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.repeat(pixels[..., :1], 3, axis=2))


def test_sixteen_bits_are_read_unless_white_is_unknown(tmp_path: Path) -> None:
    grey = np.array([[0, 40_000], [257 * 200, 65_535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[..., 0].tolist() == [[0, 156], [200, 255]]
    Image.fromarray(grey // 16).save(tmp_path / "b.png")  # a camera of 12 bits
    with pytest.raises(InputError, match=r"b\.png.*16 bits.*white is not known"):
        read_image(tmp_path / "b.png")
    colours = np.repeat(grey[..., None], 3, axis=2)
    tifffile.imwrite(tmp_path / "c.tif", colours // 16, photometric="rgb")
    with pytest.raises(InputError, match=r"c\.tif.*16 bits.*white is not known"):
        read_image(tmp_path / "c.tif")
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "d.tif")
    with pytest.raises(InputError, match=r"d\.tif.*not 8 or 16 bits"):
        read_image(tmp_path / "d.tif")


def test_an_image_over_the_bound_is_refused_by_its_header(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(plain_images, "MAX_IMAGE_PX", 1499)
    with pytest.raises(InputError, match=r"50 x 30 pixels.*pyramidal TIFF"):
        image_size(tmp_path / "a.png")


def test_pillows_own_bound_does_not_apply_and_is_put_back(
    tmp_path: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(tmp_path / "a.png").shape == (30, 50, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("kept", [0, 5, 0.5, 0.97])
def test_a_cut_off_image_is_an_input_error(
    tmp_path: Path, pixels: np.ndarray, suffix: str, kept: float
) -> None:
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(np.tile(pixels, (8, 8, 1))).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(InputError, match=rf"cut\{suffix}.*Fix: ") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_text_named_as_an_image_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InputError, match="is not an image"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("unit", "per_unit", "mpp"), [(3, 20_000.0, 0.5), (2, 25_400.0, 1.0), (1, 20_000.0, None)]
)
def test_tiff_resolution_needs_a_length_unit(
    tmp_path: Path, pixels: np.ndarray, unit: int, per_unit: float, mpp: float | None
) -> None:
    Image.fromarray(pixels).save(
        tmp_path / "a.tif", tiffinfo={282: per_unit, 283: per_unit, 296: unit}
    )
    expected = None if mpp is None else pytest.approx((mpp, mpp))
    assert first_page_um(tmp_path / "a.tif") == expected
