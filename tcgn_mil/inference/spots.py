"""Predict spots from their patches, or compute their features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.batches.augment import views as symmetries
from tcgn_mil.models.encoders import encoder_features
from tcgn_mil.models.network_input import TCGN_INPUT, EncoderInput, to_network_input


def predict_spots(
    model: nn.Module,
    patches: NDArray[np.uint8],
    *,
    batch_size: int,
    input_spec: EncoderInput = TCGN_INPUT,
    views: int = 1,
) -> NDArray[np.float32]:
    """Predict the standardised expression of patches.

    Parameters
    ----------
    model
        Encoder with its head, in evaluation mode; its device is used.
    patches
        (S, P, P, 3) uint8.
    batch_size
        Patches per batch.
    input_spec
        Size and normalisation of the images that the model reads.
    views
        Number of the square's symmetries over which predictions are averaged: 1, 4 or 8.

    Returns
    -------
    (S, G) float32.

    Examples
    --------
    >>> import numpy as np
    >>> from tcgn_mil.models import create_model
    >>> model = create_model("tcgn_tiny", num_classes=3).eval()
    >>> predict_spots(model, np.zeros((2, 112, 112, 3), np.uint8), batch_size=2).shape
    (2, 3)
    """
    return _over_patches(
        lambda pixels: model(to_network_input(pixels, input_spec)),
        model,
        patches,
        batch_size=batch_size,
        views=views,
    )


def spot_features(
    model: nn.Module,
    patches: NDArray[np.uint8],
    *,
    batch_size: int,
    input_spec: EncoderInput = TCGN_INPUT,
    views: int = 1,
) -> NDArray[np.float32]:
    """Compute the features (S, D) that the model's head reads; see :func:`predict_spots`."""
    return _over_patches(
        lambda pixels: encoder_features(model, to_network_input(pixels, input_spec)),
        model,
        patches,
        batch_size=batch_size,
        views=views,
    )


def _over_patches(
    compute: Callable[[Tensor], Tensor],
    model: nn.Module,
    patches: NDArray[np.uint8],
    *,
    batch_size: int,
    views: int,
) -> NDArray[np.float32]:
    """Apply `compute` to pixels (B, P, P, 3) on the model's device, averaged over views."""
    device = next(model.parameters()).device
    batches = []
    with torch.inference_mode():
        for start in range(0, len(patches), batch_size):
            batch = np.ascontiguousarray(patches[start : start + batch_size])
            pixels = torch.from_numpy(batch).to(device)
            seen = [compute(view).float() for view in symmetries(pixels, views)]
            batches.append(torch.stack(seen).mean(dim=0).cpu().numpy())
    return np.concatenate(batches)
