"""Pixels become the network's input: normalised, resized, and each patch by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tcgn_mil.models.network_input import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TCGN_INPUT,
    to_network_input,
)


def patches(count: int = 6, px: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, px, px, 3), dtype=torch.uint8, generator=generator)


def test_pixels_are_normalised_as_imagenet() -> None:
    images = patches(px=32)
    expected = (images.numpy() / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    found = to_network_input(images, TCGN_INPUT._replace(size_px=32))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), expected, atol=1e-5)


def test_patches_are_enlarged_to_the_network() -> None:
    images = patches(2, 112)
    found = to_network_input(images)
    assert found.shape == (2, 3, 224, 224)
    plain = to_network_input(images, TCGN_INPUT._replace(size_px=112))
    # Bilinear at twice the size: a pixel is 3/4 of the nearest and 1/4 of the next one, along
    # each axis.
    a, b = plain[:, :, 10, 20:22].unbind(-1)
    c, d = plain[:, :, 11, 20:22].unbind(-1)
    expected = (9 * a + 3 * b + 3 * c + d) / 16
    torch.testing.assert_close(found[:, :, 21, 41], expected, atol=1e-5, rtol=1e-5)


def test_larger_patches_are_reduced_without_aliasing() -> None:
    stripes = torch.zeros(1, 448, 448, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 255  # as fine as can be: their mean is what a smaller picture can show
    found = to_network_input(stripes)[:, :, 20:-20, 20:-20]
    grey = (0.5 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(found, grey[None, :, None, None].expand_as(found), atol=0.05, rtol=0)


def test_a_batch_equals_its_patches_one_by_one_and_is_not_changed() -> None:
    images = patches(4, 112)
    kept = images.clone()
    alone = torch.cat([to_network_input(images[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(to_network_input(images), alone, atol=1e-6, rtol=0)
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    "wrong", [torch.zeros(1, 8, 8, 3), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_anything_but_uint8_pixels_is_refused(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match=r"give uint8 \(B, P, P, 3\)"):
        to_network_input(wrong)
