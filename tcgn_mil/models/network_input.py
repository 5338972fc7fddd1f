"""Turn stored pixels into the images that a network reads.

Patches of spots and tiles of slides pass through the same function. Both are stored at their own
size (112 px at 0.69 µm/px by default) and enlarged to the network's size here, so that they are
equally sharp.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from tcgn_mil.models.tcgn import IMAGE_PX

IMAGENET_MEAN, IMAGENET_STD = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


class EncoderInput(NamedTuple):
    """Size and normalisation of the images that an encoder reads.

    Attributes
    ----------
    size_px
        Side of the square images, in pixels.
    mean, std
        Mean and standard deviation of red, green and blue in [0, 1], by which the images are
        normalised.
    interpolation
        Interpolation by which patches are resized, ``bilinear`` or ``bicubic``.
    resize_px
        Side to which patches are resized before the centre is cut out, at least `size_px`. None if
        the whole patch is read.
    """

    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    resize_px: int | None = None


TCGN_INPUT = EncoderInput(IMAGE_PX, IMAGENET_MEAN, IMAGENET_STD)


def to_network_input(patches: Tensor, input_spec: EncoderInput = TCGN_INPUT) -> Tensor:
    """Normalise pixels, resize them, and cut out the centre if the network reads only that.

    Parameters
    ----------
    patches
        (B, P, P, 3) uint8 RGB, for any P, on any device.
    input_spec
        Input of the network; TCGN's by default.

    Returns
    -------
    (B, 3, size_px, size_px) float32 on the same device. In memory the channels are last, as they
    are in the pixels.

    Raises
    ------
    ValueError
        If the patches have another dtype or shape.

    Examples
    --------
    >>> import torch
    >>> white = torch.full((1, 112, 112, 3), 255, dtype=torch.uint8)
    >>> images = to_network_input(white)
    >>> images.shape
    torch.Size([1, 3, 224, 224])
    >>> [round(value, 2) for value in images[0, :, 0, 0].tolist()]
    [2.25, 2.43, 2.64]
    """
    if patches.dtype != torch.uint8 or patches.ndim != 4 or patches.shape[-1] != 3:
        raise ValueError(
            f"patches are {patches.dtype} {tuple(patches.shape)}; give uint8 (B, P, P, 3)"
        )
    size_px, mean, std, interpolation, resize_px = input_spec
    resize_px = resize_px or size_px
    pixels = patches.float()
    # The pixels are normalised while they are few. The weights of the interpolation sum to one, so
    # the result is the same as after it.
    pixels.sub_(pixels.new_tensor(mean) * 255).div_(pixels.new_tensor(std) * 255)
    images = pixels.permute(0, 3, 1, 2)  # (B, 3, P, P)
    side = max(patches.shape[1:3])
    if not side == resize_px == min(patches.shape[1:3]):
        # Antialiasing changes nothing if images are enlarged, and doubles the time.
        images = nn.functional.interpolate(
            images,
            size=(resize_px, resize_px),
            mode=interpolation,
            antialias=side > resize_px,
        )
    start = (resize_px - size_px) // 2
    return images[:, :, start : start + size_px, start : start + size_px]
