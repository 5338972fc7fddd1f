"""Models whose genes are explained: spot encoders, and slide models that score a tile."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.checkpoints import load_encoder
from tcgn_mil.checkpoints.published import find_checkpoint
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.predictability import Predictability
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.inference.fold_models import FoldModel
from tcgn_mil.inference.tile_encoder import TileEncoder
from tcgn_mil.models.network_input import to_network_input
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.plotting import r_text
from tcgn_mil.signatures.tissue_markers import marker_genes
from tcgn_mil.statistics.p_values import MAX_Q
from tcgn_mil.text import counted, preview
from tcgn_mil.types.genes import GenePanel
from tcgn_mil.types.tile_geometry import PatchSize

TILE_SCORE = "standardised tile score"

_R_COLUMNS = frozenset({"gene", "depth_adjusted_r_model", "q_model"})


@dataclass(frozen=True)
class GeneModel:
    """A model of some genes, with the meaning of its output.

    Attributes
    ----------
    network
        Turns pixels into the network's input and holds the model, whose output (B, genes) is
        standardised.
    genes
        Genes of the output, in order.
    unit
        Unit of ``output * std + mean``.
    mean, std
        (genes,) scaling of the output.
    patch
        Physical size of an image.
    normalisation
        Normalisation of the spots that the model was trained on; None for slide models.
    predictability
        How well each gene is predicted, where this is known.
    """

    network: TileEncoder
    genes: tuple[str, ...]
    unit: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    patch: PatchSize
    normalisation: str | None = None
    predictability: Mapping[str, Predictability] = field(default_factory=dict)

    @property
    def model(self) -> nn.Module:
        """Network in eval mode, from images (B, 3, px, px) to (B, genes)."""
        return self.network.model

    def images(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Turn pixels (B, P, P, 3) uint8 into the network's input (B, 3, size_px, size_px)."""
        return to_network_input(torch.from_numpy(pixels), self.network.input_spec)


def spot_model(path: str | Path, genes: Sequence[str]) -> GeneModel:
    """Load the encoder of ``tcgn-mil pretrain`` with its head, for chosen genes.

    Parameters
    ----------
    path
        Checkpoint of the encoder.
    genes
        Genes to explain; if none is named, markers of tissue and immunity.

    Raises
    ------
    InputError
        If the file is not a checkpoint of a spot encoder (``timm:<name>`` predicts no genes), or if
        it lacks a gene.
    """
    model, info = load_encoder(find_checkpoint(str(path)) or path)
    genes = genes_or_markers(genes, info.head_panel, path=path)
    columns = find_genes(genes, info.head_panel, path=path)
    chosen = ChosenGenes(model, columns).eval()
    return GeneModel(
        TileEncoder(chosen, info.model, info.patch, info.input_spec),
        tuple(genes),
        info.head_scaler.transform,
        info.head_scaler.mean[columns],
        info.head_scaler.std[columns],
        info.patch,
        info.normalisation,
        spot_predictability(Path(path).parent, genes),
    )


def tile_model(
    encoder: TileEncoder,
    folds: Sequence[FoldModel],
    genes: Sequence[str],
    predictability: Mapping[str, Predictability],
) -> GeneModel:
    """Make a model that scores a tile by the slide models of `folds`, for chosen genes."""
    scores = TileScores(encoder.model, folds, genes).eval()
    network = TileEncoder(scores, encoder.identity, encoder.patch, encoder.input_spec)
    count = len(genes)
    # Scores stay standardised: a single tile has no expression in a unit of bulk tissue.
    mean, std = np.zeros(count, np.float32), np.ones(count, np.float32)
    return GeneModel(
        network,
        tuple(genes),
        TILE_SCORE,
        mean,
        std,
        folds[0].info.patch,
        predictability=predictability,
    )


def genes_or_markers(genes: Sequence[str], panel: GenePanel, *, path: object) -> tuple[str, ...]:
    """Return the genes that the user named, or else markers of tissue and immunity.

    Raises
    ------
    InputError
        If no gene is named and the panel has no marker.
    """
    chosen = tuple(genes) or marker_genes(panel.genes)
    if not chosen:
        raise InputError(
            "no gene is named, and the model has none of the markers of tissue and immunity that"
            " are explained by default",
            path=str(path),
            fix=f"name one or more, as in --gene {panel.genes[0]}",
        )
    return chosen


def spot_predictability(folder: Path, genes: Sequence[str]) -> dict[str, Predictability]:
    """Return how well a pretrained encoder predicted genes on its test sections.

    Parameters
    ----------
    folder
        Folder of the encoder, where ``pretrain`` writes ``genes_<section>.csv``.
    genes
        Names of the genes. Those without an r are left out.
    """
    fix = "run tcgn-mil pretrain again"
    tables = [
        read_own_csv(path, what="a table of genes", fix=fix)
        for path in sorted(folder.glob("genes_*.csv"))
    ]
    tables = [table for table in tables if set(table) >= _R_COLUMNS]
    if not tables:
        return {}
    joined = pd.concat(tables)
    known = {}
    for gene, rows in joined[joined["gene"].isin(genes)].groupby("gene"):
        r = float(rows["depth_adjusted_r_model"].mean())
        if not np.isfinite(r):
            continue
        sure = bool((rows["q_model"] < MAX_Q).any()) and r > 0
        words = f"depth-adjusted r {r_text(r)} on {counted(len(rows), 'test section')}"
        known[str(gene)] = Predictability(words if sure else f"not predictable, {words}", sure)
    return known


def find_genes(genes: Sequence[str], panel: GenePanel, *, path: object) -> list[int]:
    """Return the columns of genes in a panel.

    Raises
    ------
    InputError
        If the panel lacks a gene. The error suggests similar names.
    """
    missing = [gene for gene in genes if gene not in panel.genes]
    if missing:
        close = difflib.get_close_matches(missing[0].upper(), panel.genes, n=3, cutoff=0.5)
        raise InputError(
            f"the model has no gene {preview(missing)} among its {len(panel)} genes",
            path=str(path),
            fix=f"did you mean {' or '.join(close)}?"
            if close
            else f"choose among {preview(panel.genes)}",
        )
    return [panel.genes.index(gene) for gene in genes]


class _InTwoParts(Protocol):
    """The two halves of an encoder, as timm names them."""

    def forward_features(self, images: Tensor) -> Tensor: ...

    def forward_head(self, maps: Tensor) -> Tensor: ...


class ChosenGenes(nn.Module):
    """A model that outputs some genes of another model.

    Parameters
    ----------
    model
        Model of more genes.
    columns
        Columns of its output to keep.
    """

    def __init__(self, model: nn.Module, columns: Sequence[int]) -> None:
        super().__init__()
        self.model, self.columns = model, list(columns)
        self.num_features = model.num_features

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last map of the model."""
        return cast(_InTwoParts, self.model).forward_features(images)

    def forward_head(self, maps: Tensor) -> Tensor:
        """Turn the last map into (B, chosen genes)."""
        return cast(_InTwoParts, self.model).forward_head(maps)[:, self.columns]

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (B, 3, H, W) into (B, chosen genes)."""
        return self.forward_head(self.forward_features(images))


class TileScores(nn.Module):
    """An encoder without its head, followed by the tile scores of slide models.

    Scores are standardised and averaged over the slide models that have the gene. The
    attention-weighted mean of the scores over a patient's tiles is the patient's prediction. With a
    transformer, in which tiles influence one another, the score is that of the tile by itself.

    Parameters
    ----------
    encoder
        Encoder of the tiles.
    folds
        Slide models; at least one of them has each gene.
    genes
        Genes to score.
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
        """Return the last map of the encoder."""
        return cast(_InTwoParts, self.encoder).forward_features(images)

    def forward_head(self, maps: Tensor) -> Tensor:
        """Turn the last map into scores (B, genes)."""
        features = cast(_InTwoParts, self.encoder).forward_head(maps)[:, None]
        # Each tile is a bag of one, so that its score does not depend on its neighbours in a batch.
        alone = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        total: Tensor | float = 0.0
        regressors = cast("list[SlideRegressor]", list(self.regressors))
        for regressor, columns in zip(regressors, self.columns, strict=True):
            # Folds choose their genes on their own training patients, so a fold can lack a gene.
            has_gene = torch.tensor([column >= 0 for column in columns])
            values = regressor.in_context(regressor.tile_values(features), alone)
            # A model without the gene computes a score of column 0, which is not added.
            scores = regressor.score_tiles(values, [max(column, 0) for column in columns])
            total = total + torch.where(has_gene, scores[:, 0], 0.0)
        return total / torch.tensor(self.columns).ge(0).sum(dim=0)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (B, 3, H, W) into scores (B, genes)."""
        return self.forward_head(self.forward_features(images))
