"""The one transform that ST patches and slide tiles share, and the training augmentation.

Patches are stored at their own size (112 px at 0.69 µm/px by default) and enlarged to the network's 224 here, so that
both sources have the same sharpness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError

NETWORK_PX = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Optical density of red, green, blue. Rows: haematoxylin, eosin, and DAB for what is neither, as is usual for H&E
# (Ruifrok & Johnston, Anal Quant Cytol Histol 2001).
_STAINS = ((0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776))


@dataclass(frozen=True)
class AugmentConfig:
    """Training augmentation.

    Attributes
    ----------
    flips
        Random flips and rotations by 90 degrees.
    stain
        Standard deviation of each stain's relative strength (haematoxylin, eosin, residual); 0 for none.
    """

    flips: bool = True
    stain: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.stain <= 1:
            raise InputError(f"augment.stain is {self.stain}, outside 0 to 1", fix="0.1 is a usual strength")


def to_network_input(
    patches: Tensor,
    size_px: int = NETWORK_PX,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Tensor:
    """Normalise patches and bring them to the network's size, bilinear, on whichever device they are.

    Parameters
    ----------
    patches
        (B, P, P, 3) uint8, any P.
    size_px
        Side of the output.
    mean, std
        Of red, green, blue in [0, 1], as the network was trained with.

    Returns
    -------
    (B, 3, size_px, size_px) float32, channels-last in memory as the pixels were.

    Raises
    ------
    ValueError
        For another dtype or shape.
    """
    if patches.dtype != torch.uint8 or patches.ndim != 4 or patches.shape[-1] != 3:
        raise ValueError(f"patches are {patches.dtype} {tuple(patches.shape)}; give uint8 (B, P, P, 3)")
    pixels = patches.float()
    # Normalised while small: interpolation weights sum to one, so the order does not change the result.
    pixels.sub_(pixels.new_tensor(mean) * 255).div_(pixels.new_tensor(std) * 255)
    images = pixels.permute(0, 3, 1, 2)
    side = max(patches.shape[1:3])
    if side == size_px == min(patches.shape[1:3]):
        return images
    # Antialiasing changes nothing when enlarging, and takes twice the time.
    return nn.functional.interpolate(images, size=(size_px, size_px), mode="bilinear", antialias=side > size_px)


def augment(patches: Tensor, generator: torch.Generator, config: AugmentConfig) -> Tensor:
    """Turn, flip and restain each patch at random, on whichever device the patches are.

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
    return _jitter_stain(patches, generator, config.stain) if config.stain else patches


def _turn(patches: Tensor, generator: torch.Generator) -> Tensor:
    """One of the eight symmetries of the square for each patch."""
    chosen = torch.randint(0, 2, (3, len(patches), 1, 1, 1), generator=generator).bool()
    flip_rows, flip_columns, swap = chosen.to(patches.device)
    patches = torch.where(flip_rows, patches.flip(1), patches)
    patches = torch.where(flip_columns, patches.flip(2), patches)
    return torch.where(swap, patches.transpose(1, 2), patches)


def _jitter_stain(patches: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Scale each stain's optical density by its own factor for each patch; white stays white."""
    stains = torch.tensor(_STAINS)
    factors = (1 + strength * torch.randn(len(patches), 3, generator=generator)).clamp_(min=0)
    mixing = torch.linalg.inv(stains) @ (factors[:, :, None] * stains)  # (B, 3, 3): unmix, scale, mix again
    density = -torch.log((patches.float() + 1) / 256)
    restained = density.flatten(1, 2) @ mixing.to(patches.device)
    return restained.neg_().exp_().mul_(256).sub_(1).round_().clamp_(0, 255).to(torch.uint8).view_as(patches)
