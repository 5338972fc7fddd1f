"""Attention parts of TCGN: CMT blocks over positions, and encoders over channels or edges.

In a CMT block the tokens are positions of a map. In an encoder the tokens are the channels of a map
(or the edge features at a node), so that channels exchange information.

References
----------
Guo et al., CMT: Convolutional Neural Networks Meet Vision Transformers, CVPR 2022.
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91
(2024) 103040.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcgn_mil.layers.convolution import (
    BatchNorm,
    Grid,
    InvertedResidualMLP,
    Pointwise,
    ResidualDepthwise,
    as_map,
    as_tokens,
    pointwise,
)
from tcgn_mil.layers.dropout import Dropout
from tcgn_mil.layers.dropout import dropout as drop

BLOCK_LN_EPS = 1e-6


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """View tokens (B, N, C) as (B, heads, N, C / heads)."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, dropout: float = 0.0
) -> Tensor:
    """Compute softmax(scale * q k^T + bias) v.

    Parameters
    ----------
    q, k, v
        (B, heads, N, d), (B, heads, M, d) and (B, heads, M, d).
    bias
        Broadcast to (B, heads, N, M); None for none.
    scale
        Factor of the products.
    dropout
        Dropout probability on the attention weights.

    Returns
    -------
    (B, N, heads * d).
    """
    # Torch's fused kernel is used except for training on a CPU. There it falls back to single
    # operations that keep more memory than these three lines do.
    if q.is_cuda or not torch.is_grad_enabled():
        mask = None if bias is None else bias.detach() if not torch.is_grad_enabled() else bias
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale
        )
    else:
        logits = (q * scale) @ k.transpose(2, 3)
        weights = (logits if bias is None else logits + bias).softmax(dim=3)
        mixed = (drop(weights, dropout) if dropout else weights) @ v
    return mixed.transpose(1, 2).flatten(2)


def shared_input(tokens: Tensor, *maps: Pointwise) -> tuple[Tensor, ...]:
    """Apply several linear maps to the same tokens (B, N, C) by one matrix product."""
    weight = torch.cat([part.weight for part in maps])
    bias = torch.cat([part.bias for part in maps]) if maps[0].bias is not None else None
    return pointwise(tokens, weight, bias).split([part.out_features for part in maps], dim=2)


class ReducedAttention(nn.Module):
    """Multi-head attention from all positions to a coarser grid of keys and values.

    The grid is coarsened `reduction` times along each axis by a depthwise convolution, which
    divides the number of products by the square of `reduction`.
    """

    def __init__(self, dim: int, heads: int, reduction: int = 1, qkv_bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.q = Pointwise(dim, dim, bias=qkv_bias)
        self.k = Pointwise(dim, dim, bias=qkv_bias)
        self.v = Pointwise(dim, dim, bias=qkv_bias)
        self.proj = Pointwise(dim, dim)
        self.reduce: nn.Conv2d | None = None
        self.reduce_norm: BatchNorm | None = None
        if reduction > 1:
            self.reduce = nn.Conv2d(dim, dim, reduction, stride=reduction, groups=dim)
            self.reduce_norm = BatchNorm(dim)

    def forward(self, tokens: Tensor, grid: Grid, position_bias: Tensor) -> Tensor:
        """Attend from all tokens to the coarse grid.

        Parameters
        ----------
        tokens
            (B, N, C), where N = H * W.
        grid
            Rows H and columns W.
        position_bias
            (heads, N, N / reduction^2), added to the scaled products.

        Returns
        -------
        (B, N, C).
        """
        source = tokens
        if self.reduce is not None and self.reduce_norm is not None:
            # (B, N, C) to (B, N / reduction^2, C)
            source = self.reduce_norm(as_tokens(self.reduce(as_map(tokens, grid))))
        q, k, v = (
            split_heads(x, self.heads)
            for x in (self.q(tokens), *shared_input(source, self.k, self.v))
        )
        bias = position_bias.to(q.dtype).unsqueeze(0)
        return self.proj(attend(q, k, v, bias, scale=q.shape[3] ** -0.5))


class CMTBlock(nn.Module):
    """CMT block: depthwise convolution, attention and MLP, each added to its input.

    See section 3 of the CMT paper.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: float,
        reduction: int = 1,
        qkv_bias: bool = True,
        ln_eps: float = BLOCK_LN_EPS,
    ) -> None:
        super().__init__()
        self.local = ResidualDepthwise(dim)
        self.norm1 = nn.LayerNorm(dim, eps=ln_eps)
        self.attn = ReducedAttention(dim, heads, reduction, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=ln_eps)
        self.mlp = InvertedResidualMLP(dim, int(mlp_ratio * dim))

    def forward(self, tokens: Tensor, grid: Grid, position_bias: Tensor) -> Tensor:
        """Map tokens (B, H*W, C) to the same shape; for the bias see `ReducedAttention`."""
        x = as_tokens(self.local(as_map(tokens, grid)))
        x = x + self.attn(self.norm1(x), grid, position_bias)
        return x + self.mlp(self.norm2(x), grid)


class SelfAttention(nn.Module):
    """Self-attention, softmax((q k^T + diagonal * I) / sqrt(E)) v.

    As in the published network, the products are divided by sqrt(E) for any number of heads (not by
    sqrt(E / heads)), and there is no output projection. A positive `diagonal` makes each token
    attend more to itself.
    """

    def __init__(self, dim: int, heads: int, diagonal: float, dropout: float) -> None:
        super().__init__()
        self.heads, self.diagonal, self.dropout = heads, diagonal, dropout
        self.scale = dim**-0.5
        self.qkv = Pointwise(dim, 3 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, E) to the same shape."""
        q, k, v = (split_heads(x, self.heads) for x in self.qkv(tokens).chunk(3, dim=2))
        bias = None
        if self.diagonal:
            n = tokens.shape[1]
            identity = torch.eye(n, dtype=q.dtype, device=q.device)
            bias = identity.mul(self.diagonal * self.scale)[None, None]  # (1, 1, N, N)
        return attend(q, k, v, bias, self.scale, self.dropout if self.training else 0.0)


class Encoder(nn.Module):
    """Pre-norm transformer encoder of TCGN.

    Dropout acts on the attention weights, in the feed-forward part and on both residual branches.
    """

    def __init__(
        self, dim: int, heads: int, diagonal: float = 0.0, ratio: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, heads, diagonal, dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.expand = Pointwise(dim, ratio * dim)
        self.project = Pointwise(ratio * dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, E) to the same shape."""
        x = tokens + self.dropout(self.attn(self.norm1(tokens)))
        hidden = self.dropout(F.gelu(self.expand(self.norm2(x))))
        return x + self.dropout(self.project(hidden))


class ChannelAttention(nn.Module):
    """Attention among the channels of a map and those of a graph.

    Every channel is a token of N positions.
    """

    def __init__(
        self, positions: int, heads: int = 4, ratio: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.encoder = Encoder(positions, heads, diagonal=1.0, ratio=ratio, dropout=dropout)

    def forward(self, tokens: Tensor, graph_nodes: Tensor) -> Tensor:
        """Map tokens (B, N, C), with graph nodes (B, N, D) as context, to (B, N, C)."""
        channels = torch.cat([tokens, graph_nodes], dim=2).transpose(1, 2).contiguous()
        mixed = self.encoder(channels)  # (B, C + D, N)
        return mixed[:, : tokens.shape[2]].transpose(1, 2).contiguous()  # the map's channels alone
