"""Predict one bag of tile features with one slide model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tcgn_mil.batches.bag_files import Bag
from tcgn_mil.models.slide_regressor import SlideRegressor

_TILES_PER_CHUNK = 16_384


class BagPrediction(NamedTuple):
    """Prediction of one bag.

    Attributes
    ----------
    expression
        (G,) float32 in the standardised target space.
    attention
        (N,) float32, mean over attention heads; sums to one.
    tile_expression
        (N, chosen genes) float32, standardised scores of the tiles. Their
        attention-weighted sum is the expression of these genes.
    """

    expression: NDArray[np.float32]
    attention: NDArray[np.float32]
    tile_expression: NDArray[np.float32]


def predict_bag(
    model: SlideRegressor, bag: Bag, *, tile_genes: Sequence[int] = ()
) -> BagPrediction:
    """Predict expression from one bag of tiles, of a slide or of a patient.

    Parameters
    ----------
    model
        Slide model in evaluation mode; its device is used.
    bag
        Features and positions of the tiles.
    tile_genes
        Columns of the genes for which tiles are scored.

    Notes
    -----
    Tiles pass in chunks, and only their values (N, V) are held. So a bag of 200,000 tiles needs
    little memory beyond its features.

    Examples
    --------
    >>> import numpy as np
    >>> from tcgn_mil.batches.bag_files import Bag
    >>> from tcgn_mil.models.slide_regressor import SlideRegressor
    >>> model = SlideRegressor(in_features=512, num_genes=3).eval()
    >>> features = np.random.default_rng(0).standard_normal((100, 512)).astype(np.float32)
    >>> bag = Bag(features, np.zeros((100, 2), np.int64), np.zeros(100, np.int64))
    >>> predict_bag(model, bag, tile_genes=[0]).tile_expression.shape
    (100, 1)
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        chunks = torch.from_numpy(bag.features).split(_TILES_PER_CHUNK)
        values = torch.cat([model.tile_values(chunk.to(device)[None]) for chunk in chunks], dim=1)
        mask = torch.ones(values.shape[:2], dtype=torch.bool, device=device)  # (1, N)
        values = model.in_context(values, mask)  # (1, N, V)
        out = model.pool(values, mask)
        scores = model.score_tiles(values, tile_genes)  # (1, N, chosen genes)
    return BagPrediction(
        out.expression[0].cpu().numpy(),
        out.attention[0].mean(dim=0).cpu().numpy(),
        scores[0].cpu().numpy(),
    )
