"""TCGN for inference alone, with folded normalisations and matrix products in a chosen dtype.

On a CPU with bfloat16 arithmetic this is the fastest correct form of the network. In float32 it
equals the model that it was made from to 1e-4. Autocast is slower and less exact: it casts weights
at each call, and it keeps the residual stream in bfloat16, where rounding errors add up over the
blocks.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from tcgn_mil.layers.attention import ChannelAttention, CMTBlock, Encoder
from tcgn_mil.layers.cmt_stage import CMTStage
from tcgn_mil.layers.convolution import Bottleneck, ConvNeXtStage, Grid
from tcgn_mil.layers.cpu.threads import in_threads
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
    """Folded TCGN, from :func:`fold_for_inference`. It cannot be trained.

    Attributes
    ----------
    network
        The TCGN whose layers were replaced.
    dtype
        Dtype of the matrix products.
    """

    def __init__(self, network: TCGN, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.num_features, self.num_classes = network.num_features, network.num_classes
        self.head_hidden_size = network.head_hidden_size
        # timm reads size and normalisation of the images there.
        self.pretrained_cfg = self.default_cfg = getattr(network, "pretrained_cfg", None)
        super().train(False)

    def train(self, mode: bool = True) -> FoldedTCGN:
        """Refuse training mode; evaluation mode is what the model is in.

        Raises
        ------
        RuntimeError
            If `mode` is true.
        """
        if mode:
            raise RuntimeError(
                "a folded TCGN has no parameters to train; train the model that it was made from"
            )
        return self

    def forward_features(self, images: Tensor) -> Tensor:
        """Map images (B, 3, 224, 224) to the last map (B, num_features, 7, 7), float32."""
        return in_threads(self.network.forward_features, images)

    def forward_head(self, last_map: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the last map to expression (B, G), or to features (B, num_features); float32."""
        return self.network.forward_head(last_map, pre_logits)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, 224, 224) to expression (B, G), float32."""
        return self.forward_head(self.forward_features(images))


@torch.no_grad()
def fold_for_inference(model: TCGN, dtype: torch.dtype = torch.float32) -> FoldedTCGN:
    """Make a copy of a TCGN that is faster and serves for inference alone.

    Parameters
    ----------
    model
        TCGN on any device. Its evaluation mode is what is copied; it is not changed itself.
    dtype
        Dtype of convolutions and matrix products: float32, bfloat16 or float16.

    Returns
    -------
    The folded model, on the same device. Images may have any floating dtype; predictions are
    float32.

    Raises
    ------
    ValueError
        If the dtype is another one.
    TypeError
        If the model is not a TCGN, or is folded already.

    Notes
    -----
    Several parts stay in float32 whatever the dtype. Stem, patch embeddings and last convolution
    do, since no residual stream carries their input past them. So does all that leads to the first
    attention graph, since the choice of edges is discrete. Residual streams, layer normalisations
    and softmax do as well.

    Examples
    --------
    >>> import torch
    >>> from tcgn_mil.models import create_model
    >>> model = create_model("tcgn_tiny", num_classes=3).eval()
    >>> folded = fold_for_inference(model, torch.bfloat16)
    >>> with torch.inference_mode():
    ...     folded(torch.zeros(1, 3, 224, 224)).dtype
    torch.float32
    """
    if not isinstance(model, TCGN):
        raise TypeError(
            f"only a TCGN can be folded, not a {type(model).__name__};"
            " give a model from tcgn_mil.models.create_model"
        )
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(
            f"a TCGN can be folded to float32, bfloat16 or float16, not to {dtype!r};"
            " give one of these, for example torch.bfloat16"
        )
    device = next(model.parameters()).device
    network = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    stages = cast("list[CMTStage]", list(network.stages))
    stem = network.stem
    network.stem = FoldedStem(stem, STEM_GRID)  # type: ignore[assignment]
    for stage in stages:
        # The folded stem leaves its last normalisation to the patch embedding of the first stage.
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
    """Fold the paths that lead to the attention graph, in `graph_dtype`, and the fusion in `dtype`.

    What lies between them, the attention and the node-edge convolution, stays as it is.
    """
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
    # norm(W x + b) = (s W) x + (s b + t), see tcgn_mil.layers.folded.
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
