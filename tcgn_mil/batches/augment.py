"""Augment training patches: symmetries of the square, stain strength and blur.

Everything works on uint8 pixels at their stored size, before they are normalised and enlarged
(:mod:`tcgn_mil.models.network_input`).

References
----------
Ruifrok AC, Johnston DA. Quantification of histochemical staining by color deconvolution. Anal Quant
Cytol Histol 2001.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tcgn_mil.settings.augmentation import AugmentConfig

# Optical density of red, green and blue. The rows are haematoxylin, eosin and DAB. DAB stands for
# all that is neither of the others, as is usual for H&E (Ruifrok & Johnston 2001).
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))
_MIN_SIGMA = 1e-3  # its kernel is exactly 1 at the centre and 0 elsewhere: no blur
_VIEWS = (1, 4, 8)


def augment(patches: Tensor, generator: torch.Generator, config: AugmentConfig) -> Tensor:
    """Turn, flip, restain and blur each patch at random.

    Parameters
    ----------
    patches
        (B, P, P, 3) uint8 RGB on any device. They are not changed.
    generator
        Source of randomness, on the CPU, so that a seed gives the same result on every device.
    config
        Strength of each change.

    Returns
    -------
    (B, P, P, 3) uint8 on the same device.
    """
    if config.flips:
        patches = _turn(patches, generator)
    if config.stain:
        patches = _jitter_stain(patches, generator, config.stain)
    return _blur(patches, generator, config.blur) if config.blur else patches


def views(patches: Tensor, count: int) -> Iterator[Tensor]:
    """Iterate over symmetries of the square, over which predictions can be averaged.

    Parameters
    ----------
    patches
        (B, P, P, 3), any dtype.
    count
        1 for the patches themselves, 4 for their rotations by 90 degrees, 8 for the rotations of
        the flipped patches as well.

    Returns
    -------
    Iterator of `count` tensors like `patches`.

    Raises
    ------
    ValueError
        If `count` has another value.
    """
    if count not in _VIEWS:
        raise ValueError(f"{count} views are not possible; give 1, 4 or 8")
    return (torch.rot90(patches if i < 4 else patches.flip(2), i % 4, (1, 2)) for i in range(count))


def _turn(patches: Tensor, generator: torch.Generator) -> Tensor:
    """Apply one of the eight symmetries of the square to each patch."""
    # Two flips and a transposition generate all eight, each with the same probability.
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
    """Multiply the optical density of each stain by a random factor; white stays white.

    By the law of Lambert and Beer, the densities D = -log(I / I0) of red, green and blue are a
    linear mixture C S of stain concentrations C with stain vectors S. Scaling the concentrations by
    diag(f) turns D into D S^-1 diag(f) S, so each patch needs one 3 x 3 matrix.
    """
    stains = torch.tensor(_STAINS)
    factors = (1 + strength * torch.randn(len(patches), 3, generator=generator)).clamp_(min=0)
    mixing = torch.linalg.inv(stains) @ (factors[:, :, None] * stains)  # (B, 3, 3)
    # Minus the optical density of each of the 256 values; 255 is white, with density 0.
    logarithms = torch.log((torch.arange(256, device=patches.device) + 1) / 256)
    out = torch.empty_like(patches, memory_format=torch.contiguous_format)
    # One patch at a time stays in the cache, and its three planes make one wide product.
    for patch, restained, mix in zip(
        patches, out, mixing.transpose(1, 2).to(patches.device), strict=True
    ):
        planes = patch.permute(2, 0, 1).to(torch.int32, memory_format=torch.contiguous_format)
        values = mix @ logarithms.index_select(0, planes.flatten()).view(3, -1)  # (3, P * P)
        values.exp_().mul_(256).sub_(1).round_().clamp_(0, 255)
        restained.permute(2, 0, 1).copy_(values.view_as(planes))
    return out


def _blur(patches: Tensor, generator: torch.Generator, largest: float) -> Tensor:
    """Blur each patch by a Gaussian whose standard deviation is uniform in [0, `largest`] px."""
    count, height, width, colours = patches.shape
    sigmas = largest * torch.rand(count, 1, generator=generator)
    # Reflection at the edges cannot reach beyond the patch.
    radius = min(math.ceil(3 * largest), height - 1, width - 1)
    distances = torch.arange(-radius, radius + 1) / sigmas.clamp_(min=_MIN_SIGMA)
    kernels = torch.softmax(-distances.square() / 2, dim=1)  # (B, K), each sums to one
    kernels = kernels.repeat_interleave(colours, dim=0)[:, None].to(patches.device)  # (3B, 1, K)
    # All patches and colours become the channels of one image, so that one grouped convolution
    # along rows and one along columns blur each with its own kernel.
    planes = patches.permute(0, 3, 1, 2).reshape(1, count * colours, height, width).float()
    planes = nn.functional.pad(planes, (radius,) * 4, mode="reflect")
    planes = nn.functional.conv2d(planes, kernels[..., None], groups=len(kernels))
    planes = nn.functional.conv2d(planes, kernels[:, :, None], groups=len(kernels))
    blurred = planes.round_().clamp_(0, 255).to(torch.uint8)
    return blurred.view(count, colours, height, width).permute(0, 2, 3, 1).contiguous()
