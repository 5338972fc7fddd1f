"""Tests of resampling: colour, mean and orientation are kept, and nothing aliases."""

from __future__ import annotations

import numpy as np
import pytest

from tcgn_mil.preprocessing.slides.resample import resample, resample_to


def test_equal_size_is_identity() -> None:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    assert resample(image, 112) is image


@pytest.mark.parametrize("size_px", [7, 50, 81, 112, 160])
def test_flat_colour_and_channel_order_survive_any_size(size_px: int) -> None:
    image = np.empty((112, 112, 3), dtype=np.uint8)
    image[:] = (200, 30, 90)
    out = resample(image, size_px)
    assert out.shape == (size_px, size_px, 3)
    assert out.dtype == np.uint8
    assert np.all(out == (200, 30, 90))


def test_fine_checkerboard_averages_to_grey_instead_of_aliasing() -> None:
    rows, columns = np.indices((120, 120))
    image = np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    out = resample(image, 40).astype(float)
    assert abs(out.mean() - 127.5) < 1
    assert out.std() < 20  # a subsampled checkerboard would keep 127


def test_integer_shrinking_is_the_block_mean() -> None:
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    blocks = image.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(resample(image, 16) - blocks).max() <= 0.5 + 1e-6


def test_width_and_height_are_not_swapped() -> None:
    image = np.zeros((20, 40, 3), dtype=np.uint8)
    image[:, 20:] = 255
    out = resample_to(image, 10, 5)
    assert out.shape == (5, 10, 3)
    assert out[:, :5].max() == 0
    assert out[:, 5:].min() == 255
