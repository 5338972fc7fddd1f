"""Pyramidal TIFF files open as slides with their resolution and levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from tcgn_mil.errors import InputError
from tcgn_mil.io.pyramid import pyramid_description, write_pyramid


def picture(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack(
        [rows * 255 / height, columns * 255 / width, np.full_like(rows, 120)], axis=-1
    ).astype(np.uint8)


def test_openslide_reads_size_levels_and_resolution(tmp_path: Path) -> None:
    image = picture(1500, 2101)
    write_pyramid(tmp_path / "s.tiff", image, mpp=0.69, quality=95)
    with openslide.OpenSlide(tmp_path / "s.tiff") as slide:
        assert slide.dimensions == (2101, 1500)
        assert slide.level_dimensions == ((2101, 1500), (1050, 750), (525, 375))
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == pytest.approx(
            0.69, rel=1e-4
        )
        for level, scale in enumerate((1, 2, 4)):
            region = np.asarray(
                slide.read_region((400, 800), level, (64, 64)).convert("RGB"), dtype=float
            )
            expected = image[800 : 800 + 64 * scale : scale, 400 : 400 + 64 * scale : scale]
            assert np.abs(region - expected).mean() < 3


@pytest.mark.parametrize("shape", [(1, 1), (300, 40), (513, 511)])
def test_small_images_have_one_level(tmp_path: Path, shape: tuple[int, int]) -> None:
    write_pyramid(tmp_path / "s.tif", picture(*shape), mpp=0.5)
    with tifffile.TiffFile(tmp_path / "s.tif") as file:
        assert [page.shape for page in file.pages] == [(*shape, 3)]


def test_description_is_kept_with_the_image(tmp_path: Path) -> None:
    write_pyramid(tmp_path / "a.tiff", picture(30, 40), mpp=0.5, description="made from x")
    write_pyramid(tmp_path / "b.tiff", picture(30, 40), mpp=0.5)
    assert pyramid_description(tmp_path / "a.tiff") == "made from x"
    assert pyramid_description(tmp_path / "b.tiff") is None
    assert pyramid_description(tmp_path / "none.tiff") is None
    (tmp_path / "b.tiff").write_bytes(b"no TIFF")
    assert pyramid_description(tmp_path / "b.tiff") is None


def test_bad_arguments_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"outside 0\.05 to 20"):
        write_pyramid(tmp_path / "s.tiff", picture(30, 40), mpp=0.0)
    for image in (picture(30, 40)[..., 0], picture(30, 40).astype(float), picture(30, 40)[:0]):
        with pytest.raises(ValueError, match="give uint8"):
            write_pyramid(tmp_path / "s.tiff", image, mpp=0.5)
    assert not list(tmp_path.iterdir())
