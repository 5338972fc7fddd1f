"""TCGN: an image of a spot to the expression of its genes.

A CMT backbone of four stages; graph blocks on the maps of the first two, mixed into the third by channel
attention; features of 1280 channels; a two-layer head. Written from the paper and the checkpoint layout.
Departures from the published code: predictions of an image do not depend on the others in its batch, ties between
edges do not change their number, and a node without outgoing edges does not give NaN (`tcgn_mil.layers.patch_graph`).

References
----------
Xiao X, Kong Y, Li R, Wang Z, Lu H. Transformer with convolution and graph-node co-embedding. Medical Image
Analysis 91 (2024) 103040.
Guo et al., CMT: Convolutional Neural Networks Meet Vision Transformers, CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from tcgn_mil.layers.attention import ChannelAttention
from tcgn_mil.layers.checkpointing import call, checkpointed
from tcgn_mil.layers.cmt_stage import CMTStage
from tcgn_mil.layers.convolution import BatchNorm, Grid, Pointwise, Stem, as_map, as_tokens
from tcgn_mil.layers.cpu_memory import in_cache, keep_freed_memory
from tcgn_mil.layers.graph_block import GraphBlock

IMAGE_PX = 224
GRIDS: tuple[Grid, ...] = ((56, 56), (28, 28), (14, 14), (7, 7))
GRAPH_GRID = GRIDS[2]
GRAPH_PATCHES = (4, 2)


@dataclass(frozen=True)
class TCGNConfig:
    """Widths and depths of a TCGN; the defaults are the published network, on CMT-Ti.

    Attributes
    ----------
    stem_dim, dims, depths, heads, reductions, mlp_ratio
        The CMT trunk: channels of the stem; per stage, channels, blocks, attention heads and the factor by which
        keys and values are coarsened; expansion of the MLP.
    node_dim, edge_dim
        Features of a node and of an edge that leave the node-edge convolution.
    encoder_ratio
        Expansion of the encoders that take channels as tokens.
    num_features, head_hidden
        Channels of the features, and of the head's hidden layer.
    dropout
        Dropout probability, on the features and within graph blocks and encoders.
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


CONFIGS = {
    "tcgn_ti": TCGNConfig(),
    "tcgn_xs": TCGNConfig(dims=(52, 104, 208, 416), depths=(3, 3, 12, 3), mlp_ratio=3.77),
    "tcgn_tiny": TCGNConfig(
        stem_dim=8,
        dims=(8, 16, 32, 64),
        depths=(1, 1, 1, 1),
        mlp_ratio=2.0,
        node_dim=8,
        edge_dim=4,
        encoder_ratio=1,
        num_features=256,
        head_hidden=256,
    ),
}


class ExpressionHead(nn.Module):
    """Features (B, D) to expression (B, G): Linear, GELU, Linear."""

    def __init__(self, num_features: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(num_features, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D) to (B, G)."""
        return self.fc2(F.gelu(self.fc1(features)))


class TCGN(nn.Module):
    """Transformer with convolution and graph-node co-embedding (Xiao et al. 2024).

    Parameters
    ----------
    config
        Widths and depths.
    num_classes
        G, the number of genes; 0 gives no head, so that the model returns its features.
    drop_rate
        Dropout probability; None takes the configuration's.
    """

    def __init__(
        self,
        config: TCGNConfig = CONFIGS["tcgn_ti"],
        num_classes: int = 785,
        drop_rate: float | None = None,
    ) -> None:
        super().__init__()
        keep_freed_memory()
        self.config = config
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
        """Replace the head by a new one for `num_classes` genes; 0 leaves none."""
        if global_pool not in (None, "", "avg"):
            raise ValueError(
                f"TCGN averages over positions; global_pool={global_pool!r} is not offered"
            )
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes > 0:
            self.head = ExpressionHead(self.num_features, self.config.head_hidden, num_classes)
            self.head.apply(_init_weights).to(self.final_norm.weight)

    def get_classifier(self) -> nn.Module:
        """Return the head."""
        return self.head

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute stem, blocks and channel attentions in the backward pass rather than keep their activations."""
        self.grad_checkpointing = enable
        for stage in self.stages:
            assert isinstance(stage, CMTStage)
            stage.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay should leave alone: position biases and layer scales."""
        return {
            name
            for name, _ in self.named_parameters()
            if name.endswith(("position_bias", "gamma", ".p"))
        }

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns of parameter groups in order of depth, for layer-wise learning rates (timm)."""
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
        """Map normalised images (B, 3, 224, 224) to the last map (B, num_features, 7, 7), not pooled.

        Raises
        ------
        ValueError
            If the images have another shape or are not floating point.
        """
        _check_images(images, self.final_norm)
        run = checkpointed if self.grad_checkpointing and self.training else call
        a, b, c, d = cast(Iterable[CMTStage], self.stages)
        map_a = as_map(a(self._embed(images)), GRIDS[0])
        map_b = as_map(b(b.patch_embed(map_a)), GRIDS[1])
        graphs = [
            run(block, maps) for block, maps in zip(self.graph_blocks, (map_a, map_b), strict=True)
        ]
        tokens = run(self.channel_attentions[0], c.patch_embed(map_b), graphs[0])
        tokens = run(self.channel_attentions[1], c(tokens), graphs[1])
        tokens = d(d.patch_embed(as_map(tokens, GRIDS[2])))
        tokens = self.final_norm(self.final_conv(tokens))
        return self.final_act(as_map(tokens, GRIDS[3]))

    def _embed(self, images: Tensor) -> Tensor:
        """Images to the tokens (B, 3136, C) of the first stage."""
        stage = cast(CMTStage, self.stages[0])
        if self.training:
            run = checkpointed if self.grad_checkpointing else call
            return stage.patch_embed(run(self.stem, images))
        return in_cache(lambda part: stage.patch_embed(self.stem(part)), images, self.stem_floats)

    def forward_head(self, last_map: Tensor, pre_logits: bool = False) -> Tensor:
        """Map the last map (B, num_features, 7, 7) to expression (B, G), or to features (B, num_features).

        Parameters
        ----------
        last_map
            From `forward_features`.
        pre_logits
            Return the features (mean over positions, dropout), which the head takes.
        """
        features = self.dropout(as_tokens(last_map).mean(1))
        return features if pre_logits else self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, 224, 224) to expression (B, G)."""
        return self.forward_head(self.forward_features(images))


def _check_images(images: Tensor, norm: nn.Module) -> None:
    expected = (3, IMAGE_PX, IMAGE_PX)
    if isinstance(norm, BatchNorm) and norm.weight.dtype in (torch.bfloat16, torch.float16):
        raise ValueError(
            f"TCGN's weights are {norm.weight.dtype}, in which its patch graph would be wrong; keep them in float32 "
            "and use torch.autocast, or fold_for_inference with this dtype"
        )
    if (
        images.ndim != 4
        or tuple(images.shape[1:]) != expected
        or not images.is_floating_point()
        or not len(images)
    ):
        raise ValueError(
            f"TCGN takes floating-point images (B, 3, {IMAGE_PX}, {IMAGE_PX}), got {tuple(images.shape)} "
            f"{images.dtype}; resize and normalise them with the transform of timm.data.create_transform("
            "**timm.data.resolve_model_data_config(model)), and stack them into a batch"
        )


def _init_weights(module: nn.Module) -> None:
    """Truncated normal (std 0.02) for linear maps, He's fan-out normal for convolutions, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _cfg() -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 785,
        "input_size": (3, IMAGE_PX, IMAGE_PX),
        "pool_size": GRIDS[3],
        "fixed_input_size": True,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "stem.conv1",
        "classifier": "head.fc2",
        "license": "bsd-3-clause",
    }


default_cfgs = generate_default_cfgs({f"{name}.untrained": _cfg() for name in CONFIGS})


_FIXES = {
    "in_chans": " and convert the images to RGB",
    "img_size": " and resize the images",
    "global_pool": "; forward_features gives the map that is not pooled",
}


def _create(variant: str, pretrained: bool = False, **kwargs: Any) -> TCGN:
    if kwargs.pop("features_only", False):
        raise ValueError(
            "TCGN has no feature pyramid; use forward_features, which gives its last map (B, num_features, 7, 7)"
        )
    fixed = {"in_chans": 3, "img_size": IMAGE_PX, "global_pool": "avg"}
    for name, value in fixed.items():
        if kwargs.pop(name, value) not in (value, (value, value)):
            raise ValueError(f"TCGN has {name}={value!r} alone; leave {name} out{_FIXES[name]}")
    build: Callable[..., TCGN] = build_model_with_cfg
    return build(
        TCGN, variant, pretrained, kwargs_filter=tuple(fixed), config=CONFIGS[variant], **kwargs
    )


@register_model
def tcgn_ti(pretrained: bool = False, **kwargs: Any) -> TCGN:
    """TCGN on CMT-Ti, the published network: 22.5 M parameters with 785 genes."""
    return _create("tcgn_ti", pretrained, **kwargs)


@register_model
def tcgn_xs(pretrained: bool = False, **kwargs: Any) -> TCGN:
    """TCGN on CMT-XS."""
    return _create("tcgn_xs", pretrained, **kwargs)


@register_model
def tcgn_tiny(pretrained: bool = False, **kwargs: Any) -> TCGN:
    """All parts of TCGN at widths for tests and demonstrations."""
    return _create("tcgn_tiny", pretrained, **kwargs)
