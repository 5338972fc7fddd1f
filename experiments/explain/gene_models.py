"""The models whose genes are explained: a spot encoder with its head, or slide models scoring a tile."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.checkpoints import load_encoder
from tcgn_mil.errors import InputError
from tcgn_mil.inference.fold_models import FoldModel
from tcgn_mil.inference.tile_encoder import TileEncoder
from tcgn_mil.models.network_input import to_network_input
from tcgn_mil.text import preview
from tcgn_mil.types.genes import GenePanel
from tcgn_mil.types.tile_geometry import PatchSize

TILE_SCORE = "standardised tile score"


@dataclass(frozen=True)
class GeneModel:
    """A model of some genes, with what its output means.

    Attributes
    ----------
    network
        Takes pixels to the network's input; its model takes that to (B, genes), standardised.
    genes
        Of the output, in order.
    unit, mean, std
        Unit of ``output * std + mean``; (genes,) each.
    patch
        Physical size of a picture.
    normalisation
        Of the spots that it was trained on, None for a slide's model.
    """

    network: TileEncoder
    genes: tuple[str, ...]
    unit: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    patch: PatchSize
    normalisation: str | None = None

    @property
    def model(self) -> nn.Module:
        """Images (B, 3, px, px) -> (B, genes), in eval mode."""
        return self.network.model

    def images(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(B, P, P, 3) -> (B, 3, size_px, size_px), normalised."""
        return to_network_input(torch.from_numpy(pixels), self.network.input_spec)


def spot_model(path: str | Path, genes: Sequence[str]) -> GeneModel:
    """The encoder of `tcgn-mil pretrain` with its head, for chosen genes.

    Raises
    ------
    InputError
        If the file is no such checkpoint (``timm:<name>`` has no genes), or lacks a gene.
    """
    model, info = load_encoder(path)
    columns = find_genes(genes, info.panel, path=path)
    chosen = ChosenGenes(model, columns).eval()
    return GeneModel(
        TileEncoder(chosen, info.model, info.patch, info.input_spec),
        tuple(genes),
        info.scaler.transform,
        info.scaler.mean[columns],
        info.scaler.std[columns],
        info.patch,
        info.normalisation,
    )


def tile_model(encoder: TileEncoder, folds: Sequence[FoldModel], genes: Sequence[str]) -> GeneModel:
    """Scores of a tile by the slide models of `folds`, for chosen genes."""
    scores = TileScores(encoder.model, folds, genes).eval()
    network = TileEncoder(scores, encoder.identity, encoder.patch, encoder.input_spec)
    count = len(genes)
    mean, std = np.zeros(count, np.float32), np.ones(count, np.float32)
    return GeneModel(network, tuple(genes), TILE_SCORE, mean, std, folds[0].info.patch)


def find_genes(genes: Sequence[str], panel: GenePanel, *, path: object) -> list[int]:
    """Columns of genes in a panel; an unknown gene is an InputError with the nearest names there are."""
    missing = [gene for gene in genes if gene not in panel.genes]
    if missing:
        close = difflib.get_close_matches(missing[0].upper(), panel.genes, n=3, cutoff=0.5)
        raise InputError(
            f"the model has no gene {preview(missing)} among its {len(panel)}",
            path=str(path),
            fix=f"did you mean {' or '.join(close)}?"
            if close
            else f"it has {preview(panel.genes)}",
        )
    return [panel.genes.index(gene) for gene in genes]


class ChosenGenes(nn.Module):
    """A model with fewer outputs: the columns asked for."""

    def __init__(self, model: nn.Module, columns: Sequence[int]) -> None:
        super().__init__()
        self.model, self.columns = model, list(columns)
        self.num_features = model.num_features

    def forward_features(self, images: Tensor) -> Tensor:
        """The model's last map."""
        return self.model.forward_features(images)

    def forward_head(self, maps: Tensor) -> Tensor:
        """Last map to (B, chosen genes)."""
        return self.model.forward_head(maps)[:, self.columns]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, chosen genes)."""
        return self.forward_head(self.forward_features(images))


class TileScores(nn.Module):
    """An encoder without its head, then the tile scores of slide models, averaged over those that have the gene.

    Standardised, and such that their attention-weighted mean over a patient's tiles is the patient's prediction; with a
    transformer, what a tile scores by itself, without the others.
    """

    def __init__(
        self, encoder: nn.Module, folds: Sequence[FoldModel], genes: Sequence[str]
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_features = encoder.num_features
        self.regressors = nn.ModuleList(fold.model for fold in folds)
        panels = [fold.info.panel.genes for fold in folds]
        self.columns = [
            [panel.index(gene) if gene in panel else -1 for gene in genes] for panel in panels
        ]
        assert all(max(rows) >= 0 for rows in zip(*self.columns, strict=True))

    def forward_features(self, images: Tensor) -> Tensor:
        """The encoder's last map."""
        return self.encoder.forward_features(images)

    def forward_head(self, maps: Tensor) -> Tensor:
        """Last map to (B, genes)."""
        features = self.encoder.forward_head(maps)[:, None]
        alone = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        total: Tensor | float = 0.0
        for regressor, columns in zip(self.regressors, self.columns, strict=True):
            known = torch.tensor([column >= 0 for column in columns])
            values = regressor.in_context(regressor.tile_values(features), alone)
            scores = regressor.score_tiles(values, [max(column, 0) for column in columns])
            total = total + torch.where(known, scores[:, 0], 0.0)
        return total / torch.tensor(self.columns).ge(0).sum(dim=0)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, genes)."""
        return self.forward_head(self.forward_features(images))
