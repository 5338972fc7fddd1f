"""TCGN: predict the expression of genes from the image of a spot.

The trunk is a CMT of four stages. A graph block works on the map of each of the first two stages,
and channel attention mixes its result into the third stage. A head of two layers maps 1280 features
to the genes. The code was written from the paper and from the layout of the published checkpoint.

Departures from the published code:

- The prediction of an image does not depend on the other images of its batch.
- Ties between edges do not change their number, and a node without outgoing edges does not give
  NaN (:mod:`tcgn_mil.layers.patch_graph`).

References
----------
Xiao X, Kong Y, Li R, Wang Z, Lu H. Transformer with convolution and graph-node co-embedding.
Medical Image Analysis 91 (2024) 103040.
Guo et al., CMT: Convolutional Neural Networks Meet Vision Transformers, CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcgn_mil.layers.attention import ChannelAttention
from tcgn_mil.layers.checkpointing import call, checkpointed
from tcgn_mil.layers.cmt_stage import CMTStage
from tcgn_mil.layers.convolution import BatchNorm, Grid, Pointwise, Stem, as_map, as_tokens
from tcgn_mil.layers.cpu.memory import in_cache, keep_freed_memory
from tcgn_mil.layers.graph_block import GraphBlock

IMAGE_PX = 224
GRIDS: tuple[Grid, ...] = ((56, 56), (28, 28), (14, 14), (7, 7))  # tokens of each stage
GRAPH_GRID = GRIDS[2]
GRAPH_PATCHES = (4, 2)  # side of a patch, in pixels of the maps of stages 1 and 2


@dataclass(frozen=True)
class TCGNConfig:
    """Widths and depths of a TCGN. The defaults are the published network, with the trunk CMT-Ti.

    Attributes
    ----------
    stem_dim
        Channels of the stem.
    dims, depths, heads
        Channels, blocks and attention heads of each stage of the trunk.
    reductions
        For each stage, the factor by which the grid of keys and values is coarsened along each
        axis.
    mlp_ratio
        Expansion of the MLPs of the trunk.
    node_dim, edge_dim
        Features of a node and of an edge after the node-edge convolution.
    encoder_ratio
        Expansion of the encoders whose tokens are channels.
    num_features
        Channels of the features.
    head_hidden
        Width of the head's hidden layer.
    dropout
        Dropout probability on the features and within graph blocks and encoders.
    """

    stem_dim: int = 16
    dims: tuple[int, int, int, int] = (46, 92, 184, 368)
    depths: tuple[int, int, int, int] = (2, 2, 10, 2)
    heads: tuple[int, int, int, int] = (1, 2, 4, 8)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    mlp_ratio: float = 3.6
    node_dim: int = 48
    edge_dim: int = 12
    encoder_ratio: int = 4
    num_features: int = 1280
    head_hidden: int = 5120
    dropout: float = 0.1


class ExpressionHead(nn.Module):
    """Head of two linear layers with a GELU between them."""

    def __init__(self, num_features: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(num_features, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, D) to expression (B, G)."""
        return self.fc2(F.gelu(self.fc1(features)))


class TCGN(nn.Module):
    """Transformer with convolution and graph-node co-embedding (Xiao et al. 2024).

    Parameters
    ----------
    config
        Widths and depths; the published network if None.
    num_classes
        G, the number of genes; 0 for a model without a head, which returns its features.
    drop_rate
        Dropout probability; that of `config` if None.
    """

    def __init__(
        self,
        config: TCGNConfig | None = None,
        num_classes: int = 785,
        drop_rate: float | None = None,
    ) -> None:
        super().__init__()
        keep_freed_memory()
        self.config = config = config or TCGNConfig()
        self.drop_rate = config.dropout if drop_rate is None else drop_rate
        self.num_features = self.head_hidden_size = config.num_features
        self.stem = Stem(config.stem_dim)
        self.stem_floats = config.stem_dim * (IMAGE_PX // 2) ** 2
        in_dims = (config.stem_dim, *config.dims)
        shapes = zip(
            in_dims,
            config.dims,
            GRIDS,
            config.depths,
            config.heads,
            config.reductions,
            strict=False,
        )
        stages = [CMTStage(*shape, mlp_ratio=config.mlp_ratio) for shape in shapes]
        self.stages = nn.ModuleList(stages)
        widths = (config.node_dim, config.edge_dim, config.encoder_ratio, self.drop_rate)
        self.graph_blocks = nn.ModuleList(
            GraphBlock(dim, patch, GRAPH_GRID, *widths)
            for dim, patch in zip(config.dims, GRAPH_PATCHES, strict=False)
        )
        positions = GRAPH_GRID[0] * GRAPH_GRID[1]
        self.channel_attentions = nn.ModuleList(
            ChannelAttention(positions, ratio=config.encoder_ratio, dropout=self.drop_rate)
            for _ in GRAPH_PATCHES
        )
        self.final_conv = Pointwise(config.dims[3], config.num_features)
        self.final_norm = BatchNorm(config.num_features)
        self.final_act = nn.SiLU()
        self.dropout = nn.Dropout(self.drop_rate)
        self.grad_checkpointing = False
        self.apply(_init_weights)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a new one for `num_classes` genes, or by none if it is 0.

        Raises
        ------
        ValueError
            If `global_pool` is not the mean over positions (``avg``), the only one that TCGN has.
        """
        if global_pool not in (None, "", "avg"):
            raise ValueError(
                f"TCGN has no global_pool={global_pool!r}, it averages over positions;"
                " leave global_pool out"
            )
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes > 0:
            self.head = ExpressionHead(self.num_features, self.config.head_hidden, num_classes)
            self.head.apply(_init_weights).to(self.final_norm.weight)

    def get_classifier(self) -> nn.Module:
        """Return the head, an identity if there is none."""
        return self.head

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Save memory in training by computing most activations again in the backward pass.

        This concerns the stem, the blocks, the graph blocks and the channel attentions.
        """
        self.grad_checkpointing = enable
        for stage in self.stages:
            assert isinstance(stage, CMTStage)
            stage.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Return names of parameters without weight decay: position biases and layer scales."""
        return {
            name
            for name, _ in self.named_parameters()
            if name.endswith(("position_bias", "gamma", ".p"))
        }

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns of parameter names in order of depth, for layer-wise learning rates.

        The format is timm's (``timm.models.group_parameters``). The second element of an entry is
        appended to the numbers that the pattern matches. Graph blocks come after the stage whose
        map they read, and channel attentions before and after the blocks of the third stage.
        """
        blocks: list[tuple[str, tuple[int, ...] | None]] = [
            (r"^stages\.(\d+)\.(?:patch_embed|position_bias)", None if coarse else (-1,)),
            (r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^graph_blocks\.0", (0, 98)),
            (r"^graph_blocks\.1", (1, 98)),
            (r"^channel_attentions\.0", (2, -1)),
            (r"^channel_attentions\.1", (2, 99)),
            (r"^final", (4,)),
        ]
        if coarse:
            blocks = [(pattern, suffix and suffix[:1]) for pattern, suffix in blocks]
        return {"stem": r"^stem", "blocks": blocks}

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the last map, before pooling.

        Parameters
        ----------
        images
            (B, 3, 224, 224) float, normalised.

        Returns
        -------
        (B, num_features, 7, 7).

        Raises
        ------
        ValueError
            If the images have another shape or are not floating point.
        """
        _check_images(images, self.final_norm)
        apply = checkpointed if self.grad_checkpointing and self.training else call
        a, b, c, d = cast(Iterable[CMTStage], self.stages)
        map_a = as_map(a(self._embed(images)), GRIDS[0])  # (B, C1, 56, 56)
        map_b = as_map(b(b.patch_embed(map_a)), GRIDS[1])  # (B, C2, 28, 28)
        # Both graphs have the 14 x 14 patches of the third stage as nodes, (B, 196, node_dim) each.
        graphs = [
            apply(block, maps)
            for block, maps in zip(self.graph_blocks, (map_a, map_b), strict=True)
        ]
        tokens = apply(self.channel_attentions[0], c.patch_embed(map_b), graphs[0])  # (B, 196, C3)
        tokens = apply(self.channel_attentions[1], c(tokens), graphs[1])  # (B, 196, C3)
        tokens = d(d.patch_embed(as_map(tokens, GRIDS[2])))  # (B, 49, C4)
        tokens = self.final_norm(self.final_conv(tokens))  # (B, 49, num_features)
        return self.final_act(as_map(tokens, GRIDS[3]))  # (B, num_features, 7, 7)

    def _embed(self, images: Tensor) -> Tensor:
        """Map images to the tokens (B, 3136, C) of the first stage."""
        stage = cast(CMTStage, self.stages[0])
        if self.training:
            apply = checkpointed if self.grad_checkpointing else call
            return stage.patch_embed(apply(self.stem, images))
        return in_cache(lambda part: stage.patch_embed(self.stem(part)), images, self.stem_floats)

    def forward_head(self, last_map: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the last map to expression, or to features.

        Parameters
        ----------
        last_map
            (B, num_features, 7, 7), from `forward_features`.
        pre_logits
            Whether to return the features, which are the mean over positions after dropout, instead
            of expression.

        Returns
        -------
        Expression (B, G), or features (B, num_features).
        """
        features = self.dropout(as_tokens(last_map).mean(1))  # (B, num_features)
        return features if pre_logits else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, 224, 224) to expression (B, G)."""
        return self.forward_head(self.forward_features(images))


def _check_images(images: Tensor, norm: nn.Module) -> None:
    expected = (3, IMAGE_PX, IMAGE_PX)
    if isinstance(norm, BatchNorm) and norm.weight.dtype in (torch.bfloat16, torch.float16):
        raise ValueError(
            f"TCGN's weights are {norm.weight.dtype}, in which its patch graph would be wrong;"
            " keep the model in float32 and use torch.autocast, or use fold_for_inference with this"
            " dtype"
        )
    if (
        images.ndim != 4
        or tuple(images.shape[1:]) != expected
        or not images.is_floating_point()
        or not len(images)
    ):
        raise ValueError(
            f"TCGN takes floating-point images (B, 3, {IMAGE_PX}, {IMAGE_PX}), got"
            f" {tuple(images.shape)} {images.dtype}; make them from pixels with"
            " tcgn_mil.models.network_input.to_network_input, or with the transform of"
            " timm.data.create_transform(**timm.data.resolve_model_data_config(model))"
        )


def _init_weights(module: nn.Module) -> None:
    """Initialise a module: truncated normal for linear maps, He's fan-out normal for convolutions.

    Biases become zero.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
