"""The augmentation is seeded, independent for each patch, and exact where it can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tcgn_mil.batches.augment import augment, views
from tcgn_mil.errors import InputError
from tcgn_mil.settings.augmentation import AugmentConfig

FLIPS, STAIN = AugmentConfig(flips=True, stain=0), AugmentConfig(flips=False, stain=0.2)
BLUR = AugmentConfig(flips=False, stain=0, blur=3.0)


def patches(count: int = 6, px: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, px, px, 3), dtype=torch.uint8, generator=generator)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("config", [FLIPS, STAIN, BLUR, AugmentConfig(), AugmentConfig(blur=1.0)])
def test_a_seed_decides_the_augmentation(config: AugmentConfig) -> None:
    images = patches()
    assert torch.equal(augment(images, seeded(1), config), augment(images, seeded(1), config))
    assert not torch.equal(augment(images, seeded(1), config), augment(images, seeded(2), config))
    assert torch.equal(images, patches())


def test_turning_gives_all_eight_symmetries_and_nothing_else() -> None:
    one = patches(1, 5)[0]
    symmetries = [
        torch.rot90(image, turns, (0, 1)) for image in (one, one.flip(1)) for turns in range(4)
    ]
    counts = [0] * 8
    for turned in augment(one.expand(400, -1, -1, -1), seeded(0), FLIPS):
        matching = [
            index for index, symmetry in enumerate(symmetries) if torch.equal(turned, symmetry)
        ]
        assert len(matching) == 1
        counts[matching[0]] += 1
    assert min(counts) > 25  # 50 expected


def test_stain_is_that_of_the_formula_pixel_by_pixel() -> None:
    images = patches(3, 9)
    stains = np.array([(0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)])
    factors = (1 + 0.2 * torch.randn(3, 3, generator=seeded(4))).numpy()
    density = -np.log((images.numpy() + 1.0) / 256)
    restained = np.einsum("bxyc,cs,bs,sd->bxyd", density, np.linalg.inv(stains), factors, stains)
    expected = np.clip(256 * np.exp(-restained) - 1, 0, 255)
    assert np.abs(augment(images, seeded(4), STAIN).numpy() - expected).max() < 0.501  # rounded


def test_each_patch_has_its_own_stain() -> None:
    purple = torch.tensor([120, 60, 140], dtype=torch.uint8).expand(50, 4, 4, 3)
    found = augment(purple, seeded(0), STAIN)
    assert len({tuple(image[0, 0].tolist()) for image in found}) > 40
    assert (found == found[:, :1, :1]).all()  # but one stain within a patch
    assert (
        found.float().mean((0, 1, 2)) - purple[0, 0, 0].float()
    ).abs().max() < 12  # unbiased, about


def test_white_stays_white_and_no_jitter_is_the_identity() -> None:
    white = torch.full((8, 4, 4, 3), 255, dtype=torch.uint8)
    assert torch.equal(augment(white, seeded(0), STAIN), white)
    assert augment(white, seeded(0), AugmentConfig(flips=False, stain=0)) is white
    tiny = augment(patches(), seeded(0), AugmentConfig(flips=False, stain=1e-9))
    assert torch.equal(tiny, patches())


def test_stain_is_scaled_in_optical_density() -> None:
    """A patch of pure haematoxylin stays on its line in optical density, at any strength."""
    direction = torch.tensor([0.650, 0.704, 0.286])
    pixels = (256 * torch.exp(-1.5 * direction) - 1).round().to(torch.uint8).expand(30, 2, 2, 3)
    found = augment(pixels, seeded(0), STAIN).float()
    density = -torch.log((found[:, 0, 0] + 1) / 256)
    cosine = torch.nn.functional.cosine_similarity(density, direction[None])
    assert cosine.min() > 0.999
    assert density.norm(dim=1).std() > 0.1


@pytest.mark.parametrize("stain", [-0.1, 1.5, float("nan")])
def test_an_impossible_strength_is_refused(stain: float) -> None:
    with pytest.raises(InputError, match="config key 'stain'"):
        AugmentConfig(stain=stain)


@pytest.mark.parametrize("px", [16, 3])  # 3: smaller than the kernel
def test_blur_leaves_a_constant_picture_and_smooths_any_other(px: int) -> None:
    colours = patches(6, 1).expand(6, px, px, 3)
    assert torch.equal(augment(colours, seeded(0), BLUR), colours)
    images = patches(6, px)
    found = augment(images, seeded(0), BLUR)
    assert (found.dtype, found.shape, found.is_contiguous()) == (torch.uint8, images.shape, True)
    before, after = images.float().var((1, 2)), found.float().var((1, 2))
    assert (after <= before).all()  # of a narrow kernel nothing is left after rounding
    assert after.mean() < 0.5 * before.mean()


def test_blur_is_a_gaussian_of_the_patch_s_own_width() -> None:
    """The second moment of a blurred point is the variance, along both axes, in each colour."""
    points = torch.zeros(200, 41, 41, 3, dtype=torch.uint8)
    points[:, 15:26, 15:26] = 255
    sigma = BLUR.blur * torch.rand(200, generator=seeded(2))
    found = augment(points, seeded(2), BLUR).double()
    square = (torch.arange(41) - 20.0).square().double()
    box = (11**2 - 1) / 12
    for axis in (1, 2):
        profile = found.sum(3 - axis)
        variance = (profile * square[None, :, None]).sum(1) / profile.sum(1) - box
        assert (variance - sigma.square()[:, None]).abs().max() < 0.5
        assert (variance[:, 0] == variance[:, 2]).all()
    assert (found.amax((1, 2, 3)) <= 255).all()


def test_no_blur_is_the_identity() -> None:
    still = AugmentConfig(flips=False, stain=0, blur=0)
    images = patches()
    assert augment(images, seeded(0), still) is images
    assert torch.equal(
        augment(images, seeded(0), AugmentConfig(flips=False, stain=0, blur=1e-9)), images
    )


def test_blur_leaves_the_other_draws_as_they_were() -> None:
    first = augment(patches(), seeded(1), AugmentConfig(stain=0.2))
    assert torch.equal(augment(patches(), seeded(1), AugmentConfig(stain=0.2, blur=1e-9)), first)


@pytest.mark.parametrize("blur", [-0.1, 5.1, float("nan")])
def test_an_impossible_blur_is_refused(blur: float) -> None:
    with pytest.raises(InputError, match="config key 'blur'"):
        AugmentConfig(blur=blur)


@pytest.mark.parametrize("count", [1, 4, 8])
def test_views_are_the_symmetries_of_the_square(count: int) -> None:
    images = patches(3, 5)
    expected = [
        torch.rot90(batch, turns, (1, 2))
        for batch in (images, images.flip(2))
        for turns in range(4)
    ]
    found = list(views(images, count))
    assert len({view.numpy().tobytes() for view in found}) == len(found) == count
    assert torch.equal(found[0], images)
    assert all(torch.equal(view, wanted) for view, wanted in zip(found, expected, strict=False))


@pytest.mark.parametrize("count", [0, 2, 16])
def test_other_counts_of_views_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="give 1, 4 or 8"):
        views(patches(), count)
