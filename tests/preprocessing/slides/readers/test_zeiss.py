"""CZI slides are read by pylibCZIrw with the pixels of the image, wherever OpenSlide cannot."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers import open_slide, zeiss
from tcgn_mil.preprocessing.slides.table import find_slides

czi = pytest.importorskip("pylibCZIrw.czi", reason="needs the extra [czi]")


def write_czi(path: Path, image: NDArray[Any], *, mpp: float | None = 0.5, planes: int = 1) -> Path:
    """Write an image in tiles, with its corner at -300, -100, as scanners do."""
    with czi.create_czi(str(path)) as file:
        for plane in range(planes):
            for y in range(0, image.shape[0], 512):
                for x in range(0, image.shape[1], 512):
                    tile = np.ascontiguousarray(image[y : y + 512, x : x + 512, ::-1])
                    file.write(tile, location=(x - 300, y - 100), plane={"C": 0, "Z": plane})
        if mpp is not None:
            file.write_metadata("S", scale_x=mpp * 1e-6, scale_y=mpp * 1e-6)
    return path


def test_pixels_resolution_and_the_white_around(tmp_path: Path, painted: tuple) -> None:
    image = painted[0][500:1200, 700:1500]
    path = write_czi(tmp_path / "S1.czi", image)
    (entry,) = find_slides(tmp_path)
    assert entry.slide_id == "S1"
    with open_slide(path) as slide:
        assert (slide.size, slide.mpp, slide.bits) == ((800, 700), 0.5, 8)
        assert np.array_equal(slide.read(0, 0, 0, 800, 700), image)
        corner = slide.read(-10, -20, 0, 50, 60)
        assert (corner[:20] == 255).all()
        assert (corner[:, :10] == 255).all()
        assert np.array_equal(corner[20:, 10:], image[:40, :40])
    with pytest.raises(InputError, match=r"0\.5 µm/px, but 0.25 was given"):
        open_slide(path, mpp=0.25)


def test_16_bits_and_grey(tmp_path: Path, painted: tuple) -> None:
    image = painted[0][500:700, 700:900, :1]
    for name, values in (("g8", image), ("g16", image.astype(np.uint16) * 257)):
        with open_slide(write_czi(tmp_path / f"{name}.czi", values)) as slide:
            assert np.array_equal(slide.read(0, 0, 0, 200, 200), np.repeat(image, 3, axis=2))


def test_what_is_no_flat_slide_is_refused(tmp_path: Path, painted: tuple) -> None:
    image = painted[0][:100, :100]
    with pytest.raises(InputError, match=r"no brightfield slide of one plane.*Z 2"):
        open_slide(write_czi(tmp_path / "z.czi", image, planes=2))
    with pytest.raises(InputError, match="does not say its resolution"):
        open_slide(write_czi(tmp_path / "a.czi", image, mpp=None))
    whole = write_czi(tmp_path / "b.czi", image).read_bytes()
    (tmp_path / "b.czi").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read as CZI"):
        open_slide(tmp_path / "b.czi")


def test_without_the_extra_the_error_says_what_to_install(
    tmp_path: Path, painted: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_czi(tmp_path / "a.czi", painted[0][:100, :100])
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    with pytest.raises(InputError, match=r"pip install 'tcgn-mil\[czi\]'"):
        open_slide(path)


def test_levels_are_those_that_the_whole_slide_has(tmp_path: Path, painted: tuple) -> None:
    def block(x: int, width: int, step: int) -> SimpleNamespace:
        return SimpleNamespace(
            logicalRect=SimpleNamespace(x=x, y=0, w=width, h=900),
            physicalSize=SimpleNamespace(w=width // step, h=900 // step),
            get_compression_mode=lambda: "CompressionMode.JpgXr",
        )

    blocks = [block(0, 600, 1), block(600, 600, 1), block(0, 1200, 3), block(0, 600, 9)]
    slide = object.__new__(zeiss.CziSlide)
    slide.path = tmp_path
    slide._reader = SimpleNamespace(
        total_bounding_rectangle_no_pyramid=SimpleNamespace(x=0, y=0, w=1200, h=900),
        enumerate_subblocks=lambda note: [note(i, each) for i, each in enumerate(blocks)],
    )
    slide._open_levels()
    assert slide.level_downsamples == (1.0, 3.0)
    assert slide.level_sizes == ((1200, 900), (400, 300))
    assert slide.has_jpeg_xr
