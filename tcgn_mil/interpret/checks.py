"""Check a model and its images before they are explained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError


def check_model_and_images(model: nn.Module, images: Tensor) -> None:
    """Check that a model is in evaluation mode, and that images (B, 3, H, W) are finite.

    Raises
    ------
    ValueError
        If the model is in training mode, or the images have another shape or dtype.
    InputError
        If a pixel is not finite.
    """
    if model.training:
        raise ValueError(
            "the model is in training mode, so that its output is random; call model.eval()"
        )
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"images are {tuple(images.shape)} {images.dtype}; give floating point (B, 3, H, W)"
        )
    bad = (~torch.isfinite(images)).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if bad:
        raise InputError(
            f"image {bad[0]} of the batch holds pixels that are not finite (NaN or infinity)",
            fix="check the image, and remove it from the batch",
        )
