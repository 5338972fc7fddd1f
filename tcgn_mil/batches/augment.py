"""The one transform that ST patches and slide tiles share, and the training augmentation.

Patches are stored at their own size (112 px at 0.69 µm/px by default) and enlarged to the network's 224 here, so that
both sources have the same sharpness.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tcgn_mil.models.encoders import _LEAST_SIGMA, _STAINS, _VIEWS
from tcgn_mil.settings.augmentation import AugmentConfig


def augment(patches: Tensor, generator: torch.Generator, config: AugmentConfig) -> Tensor:
    """Turn, flip, restain and blur each patch at random, on whichever device the patches are.

    Parameters
    ----------
    patches
        (B, P, P, 3) uint8; not changed.
    generator
        On the CPU, so that a seed draws the same on every device.

    Returns
    -------
    (B, P, P, 3) uint8.
    """
    if config.flips:
        patches = _turn(patches, generator)
    if config.stain:
        patches = _jitter_stain(patches, generator, config.stain)
    return _blur(patches, generator, config.blur) if config.blur else patches


def views(patches: Tensor, count: int) -> Iterator[Tensor]:
    """Symmetries of the square, to average predictions over: identity, its rotations by 90 degrees, the flipped ones.

    Parameters
    ----------
    patches
        (B, P, P, 3), any dtype.
    count
        1, 4 (without the flipped ones) or 8.

    Returns
    -------
    Iterator of `count` tensors like `patches`.

    Raises
    ------
    ValueError
        For another count.
    """
    if count not in _VIEWS:
        raise ValueError(f"{count} views; give 1, 4 or 8")
    return (torch.rot90(patches if i < 4 else patches.flip(2), i % 4, (1, 2)) for i in range(count))


def _turn(patches: Tensor, generator: torch.Generator) -> Tensor:
    """One of the eight symmetries of the square for each patch."""
    chosen = torch.randint(0, 2, (3, len(patches)), generator=generator).bool()
    out = torch.empty_like(patches, memory_format=torch.contiguous_format)
    for patch, turned, (flip_rows, flip_columns, swap) in zip(
        patches, out, chosen.T.tolist(), strict=True
    ):
        axes = [0] * flip_rows + [1] * flip_columns
        flipped = patch.flip(axes) if axes else patch
        turned.copy_(flipped.transpose(0, 1) if swap else flipped)
    return out


def _jitter_stain(patches: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Scale each stain's optical density by its own factor for each patch; white stays white."""
    stains = torch.tensor(_STAINS)
    factors = (1 + strength * torch.randn(len(patches), 3, generator=generator)).clamp_(min=0)
    mixing = torch.linalg.inv(stains) @ (
        factors[:, :, None] * stains
    )  # (B, 3, 3): unmix, scale, mix again
    logarithms = torch.log(
        (torch.arange(256, device=patches.device) + 1) / 256
    )  # minus the density of each value
    out = torch.empty_like(patches, memory_format=torch.contiguous_format)
    # One by one a patch stays in the cache, and its three planes make one wide product.
    for patch, restained, mix in zip(
        patches, out, mixing.transpose(1, 2).to(patches.device), strict=True
    ):
        planes = patch.permute(2, 0, 1).to(torch.int32, memory_format=torch.contiguous_format)
        values = mix @ logarithms.index_select(0, planes.flatten()).view(3, -1)
        values.exp_().mul_(256).sub_(1).round_().clamp_(0, 255)
        restained.permute(2, 0, 1).copy_(values.view_as(planes))
    return out


def _blur(patches: Tensor, generator: torch.Generator, largest: float) -> Tensor:
    """Blur each patch by a Gaussian whose standard deviation is uniform in [0, `largest`] px; edges are reflected."""
    count, height, width, colours = patches.shape
    sigmas = largest * torch.rand(count, 1, generator=generator)
    radius = min(
        math.ceil(3 * largest), height - 1, width - 1
    )  # reflection knows no more than the patch
    distances = torch.arange(-radius, radius + 1) / sigmas.clamp_(min=_LEAST_SIGMA)
    kernels = torch.softmax(-distances.square() / 2, dim=1)
    kernels = kernels.repeat_interleave(colours, dim=0)[:, None].to(patches.device)  # (3B, 1, K)
    planes = patches.permute(0, 3, 1, 2).reshape(1, count * colours, height, width).float()
    planes = nn.functional.pad(planes, (radius,) * 4, mode="reflect")
    planes = nn.functional.conv2d(planes, kernels[..., None], groups=len(kernels))
    planes = nn.functional.conv2d(planes, kernels[:, :, None], groups=len(kernels))
    blurred = planes.round_().clamp_(0, 255).to(torch.uint8)
    return blurred.view(count, colours, height, width).permute(0, 2, 3, 1).contiguous()
