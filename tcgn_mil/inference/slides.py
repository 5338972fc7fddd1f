"""One patient's prediction: by the models that may speak for it, from all tiles of its slides as one bag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tcgn_mil.batches.bag_files import Bag
from tcgn_mil.models.slide_regressor import SlideRegressor

_TILES_A_CHUNK = 16_384


class SlidePrediction(NamedTuple):
    """What a slide model says of one bag.

    Attributes
    ----------
    expression
        (G,) in the standardised target space.
    attention
        (N,) mean over heads, sums to one.
    tile_expression
        (N, chosen genes) standardised scores, whose attention-weighted sum is the expression of these genes.
    """

    expression: NDArray[np.float32]
    attention: NDArray[np.float32]
    tile_expression: NDArray[np.float32]


def predict_bag(
    model: SlideRegressor, bag: Bag, *, tile_genes: Sequence[int] = ()
) -> SlidePrediction:
    """Predict one patient from all tiles, by a model in eval mode on its own device.

    Tiles pass in chunks and only their values, (N, V), are held, so a bag of 200,000 tiles needs little beyond itself.
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        chunks = torch.from_numpy(bag.features).split(_TILES_A_CHUNK)
        values = torch.cat([model.tile_values(chunk.to(device)[None]) for chunk in chunks], dim=1)
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=device)
        values = model.in_context(values, mask)
        out = model.pool(values, mask)
        scores = model.score_tiles(values, tile_genes)
    return SlidePrediction(
        out.expression[0].cpu().numpy(),
        out.attention[0].mean(dim=0).cpu().numpy(),
        scores[0].cpu().numpy(),
    )
