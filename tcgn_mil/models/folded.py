"""A TCGN for inference alone: batch normalisations folded into convolutions, products in a chosen dtype.

On a CPU with bfloat16 arithmetic it is the fastest correct form of the network; in float32 it equals the model it was
made from to 1e-4. Autocast does not reach these figures: it casts weights at each call and keeps the residual stream,
whose rounding errors add up over the blocks, in bfloat16.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from tcgn_mil.layers.attention import ChannelAttention, CMTBlock, Encoder
from tcgn_mil.layers.cmt_stage import CMTStage
from tcgn_mil.layers.convolution import Bottleneck, ConvNeXtStage, Grid
from tcgn_mil.layers.folded import (
    FoldedAttention,
    FoldedConv,
    FoldedMLP,
    FoldedPatchEmbed,
    FoldedPointwise,
    FoldedResidualDepthwise,
    FoldedSelfAttention,
    FoldedStem,
)
from tcgn_mil.layers.graph_block import GraphBlock
from tcgn_mil.models.tcgn import IMAGE_PX, TCGN, ExpressionHead

STEM_GRID = (IMAGE_PX // 2, IMAGE_PX // 2)


class FoldedTCGN(nn.Module):
    """What `fold_for_inference` returns; it cannot be trained.

    Attributes
    ----------
    network
        The TCGN whose layers were replaced.
    dtype
        Of the products.
    """

    def __init__(self, network: TCGN, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.num_features, self.num_classes = network.num_features, network.num_classes
        self.head_hidden_size = network.head_hidden_size
        self.pretrained_cfg = self.default_cfg = getattr(
            network, "pretrained_cfg", None
        )  # timm's preprocessing
        super().train(False)

    def train(self, mode: bool = True) -> FoldedTCGN:
        """Refuse to train.

        Raises
        ------
        RuntimeError
            If `mode` is true.
        """
        if mode:
            raise RuntimeError(
                "a folded TCGN has no parameters left to train; train the model it was made from"
            )
        return self

    def forward_features(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, 224, 224) to the last map (B, num_features, 7, 7), float32."""
        return self.network.forward_features(images)

    def forward_head(self, last_map: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the last map to expression (B, G), or to features (B, num_features); float32."""
        return self.network.forward_head(last_map, pre_logits)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, 224, 224) to expression (B, G), float32."""
        return self.network(images)


@torch.no_grad()
def fold_for_inference(model: TCGN, dtype: torch.dtype = torch.float32) -> FoldedTCGN:
    """Copy a TCGN with its normalisations folded and its convolutions and products in `dtype`.

    Stem, patch embeddings and last convolution, which no residual stream by-passes, what leads to the first attention
    graph, residual streams, layer normalisations, softmax and the choice of edges stay in float32; the images may have
    any floating dtype, predictions are float32. The model itself is left as it is.

    Parameters
    ----------
    model
        On any device; its eval mode is what is copied.
    dtype
        float32, bfloat16 or float16.

    Raises
    ------
    ValueError
        If the dtype is another one.
    TypeError
        If the model is no TCGN, or folded already.
    """
    if not isinstance(model, TCGN):
        raise TypeError(
            f"a TCGN can be folded, not a {type(model).__name__}; give the model that tcgn_mil.models makes"
        )
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(
            f"a TCGN can be folded to float32, bfloat16 or float16, not {dtype!r}; pass torch.bfloat16, say"
        )
    device = next(model.parameters()).device
    network = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    stages = cast("list[CMTStage]", list(network.stages))
    stem = network.stem
    network.stem = FoldedStem(stem, STEM_GRID)  # type: ignore[assignment]
    for stage in stages:
        norm = stem.norm3 if stage is stages[0] else None
        stage.patch_embed = FoldedPatchEmbed(stage.patch_embed, norm)  # type: ignore[assignment]
        for block in stage.blocks:
            _fold_block(cast(CMTBlock, block), stage.grid, dtype)
    for graph_block, graph_dtype in zip(network.graph_blocks, (torch.float32, dtype), strict=True):
        _fold_graph_block(cast(GraphBlock, graph_block), graph_dtype, dtype)
    for attention in cast("list[ChannelAttention]", list(network.channel_attentions)):
        _fold_encoder(
            attention.encoder, dtype, tokens=network.config.dims[2] + network.config.node_dim
        )
    _fold_end(network, dtype)
    return FoldedTCGN(network, dtype).to(device)


def _fold_block(block: CMTBlock, grid: Grid, dtype: torch.dtype) -> None:
    block.local = FoldedResidualDepthwise(block.local)  # type: ignore[assignment]
    block.attn = FoldedAttention(block.attn, dtype)  # type: ignore[assignment]
    block.mlp = FoldedMLP(block.mlp, grid, dtype)  # type: ignore[assignment]


def _fold_graph_block(block: GraphBlock, graph_dtype: torch.dtype, dtype: torch.dtype) -> None:
    """Fold the paths that lead to the attention graph, in `graph_dtype`, and the fusion; not what lies between."""
    for stage in cast("list[ConvNeXtStage]", list(block.convnext)):
        stage.downsample = FoldedConv(stage.downsample, graph_dtype, out_dtype=torch.float32)  # type: ignore[assignment]
        for bottleneck in cast("list[Bottleneck]", list(stage.bottlenecks)):
            bottleneck.depthwise = FoldedConv(bottleneck.depthwise, graph_dtype)  # type: ignore[assignment]
            bottleneck.expand = _fold_linear(bottleneck.expand, graph_dtype)  # type: ignore[assignment]
            bottleneck.project = _fold_linear(bottleneck.project, graph_dtype)  # type: ignore[assignment]
    block.patch_embed = FoldedPatchEmbed(block.patch_embed)  # type: ignore[assignment]
    fusion = block.fusion
    _fold_block(block.token_block, block.grid, graph_dtype)
    _fold_block(fusion.node_block, block.grid, dtype)
    _fold_encoder(fusion.edge_encoder, dtype)
    _fold_encoder(fusion.channel_encoder, dtype)
    fusion.linear = _fold_linear(fusion.linear, dtype, torch.float32)  # type: ignore[assignment]


def _fold_encoder(encoder: Encoder, dtype: torch.dtype, tokens: int = 0) -> None:
    encoder.attn = FoldedSelfAttention(encoder.attn, tokens, dtype)  # type: ignore[assignment]
    encoder.expand = _fold_linear(encoder.expand, dtype)  # type: ignore[assignment]
    encoder.project = _fold_linear(encoder.project, dtype)  # type: ignore[assignment]


def _fold_end(network: TCGN, dtype: torch.dtype) -> None:
    scale, shift = network.final_norm.affine_terms()
    conv = network.final_conv
    weight, bias = conv.weight * scale[:, None], conv.bias * scale + shift
    network.final_conv = FoldedPointwise(weight, bias, torch.float32)  # type: ignore[assignment]
    network.final_norm = nn.Identity()  # type: ignore[assignment]
    head = network.head
    if isinstance(head, ExpressionHead):
        head.fc1 = _fold_linear(head.fc1, dtype)  # type: ignore[assignment]
        head.fc2 = _fold_linear(head.fc2, dtype, torch.float32)  # type: ignore[assignment]


def _fold_linear(
    linear: nn.Linear, dtype: torch.dtype, out_dtype: torch.dtype | None = None
) -> FoldedPointwise:
    return FoldedPointwise(linear.weight, linear.bias, dtype, out_dtype)
