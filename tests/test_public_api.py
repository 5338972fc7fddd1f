"""Tests of the front door ``import tcgn_mil``: what it offers, and that it stays light."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import tcgn_mil
from tcgn_mil.errors import InputError


def test_every_public_name_is_there_and_documented() -> None:
    assert {*tcgn_mil._PUBLIC, "__version__"} == set(tcgn_mil.__all__)
    for name in tcgn_mil._PUBLIC:
        assert name in dir(tcgn_mil)
        documented = inspect.getdoc(getattr(tcgn_mil, name)) or ""
        assert len(documented) > 40, f"tcgn_mil.{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tcgn_mil.nothing  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, tcgn_mil; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "pandas", "anndata", "matplotlib", "sklearn", "pydantic"}
    assert not heavy & set(done.stdout.split())


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A picture of textured tissue on a white ground, 0.5 µm per pixel."""
    generator = np.random.default_rng(0)
    picture = np.full((1200, 1600, 3), 245, dtype=np.uint8)
    tissue = generator.normal((190, 110, 160), 35, (700, 900, 3))
    picture[250:950, 350:1250] = np.clip(tissue, 0, 255).astype(np.uint8)
    path = tmp_path / "slide.png"
    cv2.imwrite(str(path), picture[..., ::-1])
    return path


def test_one_slide_is_tiled_and_encoded_in_three_calls(slide: Path, tmp_path: Path) -> None:
    encoder = tcgn_mil.open_encoder("timm:resnet10t", untrained=True)
    tiles = tcgn_mil.tile_slide(slide, tmp_path / "tiles", mpp=0.5)
    chosen = tiles.select(np.arange(4))
    encoded = tcgn_mil.encode_slide(slide, chosen, encoder, device="cpu", mpp=0.5)
    assert encoded.features.shape == (4, 512)
    np.testing.assert_array_equal(encoded.coords, chosen.coords)
    assert np.isfinite(encoded.colour).all()


def test_a_folder_of_two_slides_is_refused(slide: Path, tmp_path: Path) -> None:
    slide.with_name("other.png").write_bytes(slide.read_bytes())
    with pytest.raises(InputError, match=r"holds 2 slides, not one\. Fix: give the file of one"):
        tcgn_mil.tile_slide(slide.parent, tmp_path / "tiles", mpp=0.5)
