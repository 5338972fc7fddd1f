"""Tiles to features, patches to spot predictions, bags to slide predictions; streaming, on any device.

Takes iterables of (pixels, coords) batches and does not know where they come from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.batches.augment import views as symmetries
from tcgn_mil.models import encoder_features
from tcgn_mil.models.network_input import TCGN_INPUT, EncoderInput, to_network_input


def predict_spots(
    model: nn.Module,
    patches: NDArray[np.uint8],
    *,
    batch_size: int,
    input_spec: EncoderInput = TCGN_INPUT,
    views: int = 1,
) -> NDArray[np.float32]:
    """Standardised expression (S, G) of patches, by a model in eval mode on its own device.

    Parameters
    ----------
    patches
        (S, P, P, 3).
    input_spec
        What the model's input needs.
    views
        1, 4 or 8 of the square's symmetries, whose predictions are averaged.
    """

    def predict(pixels: Tensor) -> Tensor:
        return model(to_network_input(pixels, input_spec))

    return _over_patches(predict, model, patches, batch_size=batch_size, views=views)


def spot_features(
    model: nn.Module,
    patches: NDArray[np.uint8],
    *,
    batch_size: int,
    input_spec: EncoderInput = TCGN_INPUT,
    views: int = 1,
) -> NDArray[np.float32]:
    """Features (S, D) that a model's head takes, of patches and on a device as in :func:`predict_spots`."""

    def features(pixels: Tensor) -> Tensor:
        return encoder_features(model, to_network_input(pixels, input_spec))

    return _over_patches(features, model, patches, batch_size=batch_size, views=views)


def _over_patches(
    call: Callable[[Tensor], Tensor],
    model: nn.Module,
    patches: NDArray[np.uint8],
    *,
    batch_size: int,
    views: int,
) -> NDArray[np.float32]:
    """What `call` gives for pixels (B, P, P, 3) on the model's device, averaged over views, for all patches."""
    device = next(model.parameters()).device
    found = []
    with torch.inference_mode():
        for start in range(0, len(patches), batch_size):
            pixels = torch.from_numpy(np.ascontiguousarray(patches[start : start + batch_size])).to(
                device
            )
            seen = [call(view).float() for view in symmetries(pixels, views)]
            found.append(torch.stack(seen).mean(dim=0).cpu().numpy())
    return np.concatenate(found)
