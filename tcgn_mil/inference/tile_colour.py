"""Compute the colour statistics of tiles by torch, on the device that encodes them.

They are those of :func:`tcgn_mil.baselines.colour_statistics`, to rounding. On a GPU they cost a
sort beside the encoder, and the processes that read tiles are spared about half of their work.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tcgn_mil.baselines import COLOUR_STATISTICS, PERCENTILES

_LEAST = 1e-6  # optical density is the logarithm of at least this, as in scikit-image


def colour_statistics_of(patches: Tensor) -> Tensor:
    """Colour and stain statistics of image patches.

    Parameters
    ----------
    patches
        (S, H, W, 3) uint8 RGB, on any device.

    Returns
    -------
    (S, 30) float32 on the same device: mean, standard deviation and 10th, 50th and 90th percentile
    of red, green, blue, haematoxylin, eosin and residual, statistic by statistic.

    Examples
    --------
    >>> import torch
    >>> white = torch.full((1, 8, 8, 3), 255, dtype=torch.uint8)
    >>> colour_statistics_of(white)[0, :3]
    tensor([1., 1., 1.])
    """
    from skimage.color import hed_from_rgb

    rgb = patches.flatten(1, 2).float() / 255  # (S, pixels, 3)
    stains = torch.as_tensor(hed_from_rgb, dtype=torch.float32, device=rgb.device)
    density = rgb.clamp(min=_LEAST).log() / math.log(_LEAST)
    values = torch.cat([rgb, (density @ stains).clamp(min=0)], dim=2)  # (S, pixels, 6)
    ordered = values.sort(dim=1).values
    parts = [values.mean(dim=1), values.std(dim=1, correction=0)]
    parts += [_percentile(ordered, percent) for percent in PERCENTILES]
    return torch.cat(parts, dim=1).reshape(len(patches), COLOUR_STATISTICS)


def _percentile(ordered: Tensor, percent: float) -> Tensor:
    """Return a percentile of sorted values (S, pixels, 6), between two of them by a line."""
    place = (ordered.shape[1] - 1) * percent / 100
    low = math.floor(place)
    high = min(low + 1, ordered.shape[1] - 1)
    return torch.lerp(ordered[:, low], ordered[:, high], place - low)
