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
# Rows: haematoxylin, eosin and their cross product in optical density of red, green, blue
# (Ruifrok & Johnston, Anal Quant Cytol Histol 2001), unit length.
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
    """(B, P, P, 3) uint8 -> (B, 3, size, size) float32, normalised, on the device of `patches`."""
    if patches.dtype != torch.uint8 or patches.ndim != 4 or patches.shape[-1] != 3:
        raise ValueError(f"patches are {patches.dtype} {tuple(patches.shape)}; give uint8 (B, P, P, 3)")
    images = patches.permute(0, 3, 1, 2).float()  # stays channels-last in memory
    if patches.shape[1] != size_px or patches.shape[2] != size_px:
        images = nn.functional.interpolate(
            images, size=(size_px, size_px), mode="bilinear", align_corners=False, antialias=patches.shape[1] > size_px
        )
    centre = images.new_tensor(mean).mul_(255)[:, None, None]
    spread = images.new_tensor(std).mul_(255)[:, None, None]
    return (images - centre) / spread


def augment(patches: Tensor, generator: torch.Generator, config: AugmentConfig) -> Tensor:
    """(B, P, P, 3) uint8 -> the same, each patch flipped, turned and stained at random."""
    if config.flips:
        patches = _turn(patches, generator)
    return _jitter_stain(patches, generator, config.stain) if config.stain else patches


def _turn(patches: Tensor, generator: torch.Generator) -> Tensor:
    """One of the eight symmetries of the square for each patch."""
    flip_rows, flip_columns, swap = torch.randint(0, 2, (3, len(patches)), generator=generator).bool()
    flip_rows, flip_columns, swap = (chosen[:, None, None, None] for chosen in (flip_rows, flip_columns, swap))
    patches = torch.where(flip_rows, patches.flip(1), patches)
    patches = torch.where(flip_columns, patches.flip(2), patches)
    return torch.where(swap, patches.transpose(1, 2), patches)


def _jitter_stain(patches: Tensor, generator: torch.Generator, strength: float) -> Tensor:
    """Scale each stain's optical density by its own factor for each patch."""
    stains = torch.tensor(_STAINS)
    stains = stains / stains.norm(dim=1, keepdim=True)
    factors = 1 + strength * torch.randn(len(patches), 3, generator=generator)
    mixing = torch.linalg.inv(stains) @ (factors.clamp(min=0)[:, :, None] * stains)  # (B, 3, 3)
    density = -torch.log((patches.float() + 1) / 256)
    turned = density.flatten(1, 2) @ mixing
    return (torch.exp(-turned) * 256 - 1).round_().clamp_(0, 255).to(torch.uint8).view_as(patches)
