"""Layers for inference alone, with batch normalisation folded into the weights.

Each layer is made from its counterpart in evaluation mode and computes the same function. Linear
steps (convolutions and matrix products) run in the dtype of the folded weights. Residual streams,
layer normalisations, softmax and the patch graph stay in float32.

In evaluation mode batch normalisation is affine, norm(x) = s x + t for each channel. After a
convolution it folds exactly:

    norm(W x + b) = (s W) x + (s b + t).

Before a convolution without padding it folds exactly as well, conv(norm(x)) = (W s) x + (W t + b).
With zero padding it does not at the border, because the padding is added after the normalisation:
the taps that fall on it see 0, not t. So the constant of the interior, b + sum over all taps of
W t, joins the bias, and the border of the output is corrected by the difference between the
convolution of a constant map t with padding and that constant (:class:`Border`). The difference
depends on the weights alone and is computed once.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcgn_mil.layers.attention import ReducedAttention, SelfAttention, split_heads
from tcgn_mil.layers.convolution import (
    BatchNorm,
    Grid,
    InvertedResidualMLP,
    PatchEmbed,
    Pointwise,
    ResidualDepthwise,
    Stem,
    as_map,
    as_tokens,
    pointwise,
)
from tcgn_mil.layers.cpu.memory import in_cache
from tcgn_mil.layers.cpu.onednn import conv2d


class Constant(nn.Module):
    """Weight and bias of a linear map, as buffers that are not trained."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        weight = weight.detach().to(dtype)
        # Convolutions read and write channels-last maps; depthwise kernels have no channels to
        # order.
        if weight.ndim == 4 and weight.shape[1] > 1:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", None if bias is None else bias.detach().to(dtype))


class FoldedPointwise(Constant):
    """Linear map of the last axis in the dtype of its weights.

    The result is cast to `out_dtype` if one is given.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        out_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(weight, bias, dtype)
        self.out_dtype = out_dtype or dtype

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, D), or (B, C) to (B, D)."""
        tokens = tokens.to(self.weight.dtype)
        linear = pointwise if tokens.ndim == 3 else F.linear
        return linear(tokens, self.weight, self.bias).to(self.out_dtype)


class FoldedConv(Constant):
    """Convolution in the dtype of its weights.

    Stride, padding and groups are those of `conv`. Weight and bias are those of `conv` unless
    others are given.
    """

    def __init__(
        self,
        conv: nn.Conv2d,
        dtype: torch.dtype,
        *,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            conv.weight if weight is None else weight, conv.bias if bias is None else bias, dtype
        )
        self.stride, self.groups = conv.stride, conv.groups
        self.padding = cast("tuple[int, ...]", conv.padding)
        self.out_dtype = out_dtype or dtype

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve maps (B, C, H, W)."""
        maps = maps.to(self.weight.dtype)
        maps = conv2d(
            maps,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            groups=self.groups,
        )
        return maps.to(self.out_dtype)


class Border(nn.Module):
    """Correction of the border after a normalisation was folded into a padded 3x3 convolution.

    It is the convolution of a constant map `shift` (C,) with zero padding, minus its value in the
    interior. So it is zero in the interior and not zero in the outermost rows and columns.
    """

    difference: Tensor

    def __init__(
        self, weight: Tensor, shift: Tensor, grid: Grid, groups: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        ones = shift[None, :, None, None].expand(1, -1, *grid)
        difference = (
            F.conv2d(ones, weight, padding=1, groups=groups)
            - interior(weight, shift)[:, None, None]
        )
        difference = difference.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        self.register_buffer("difference", difference)

    def add_to(self, maps: Tensor) -> Tensor:
        """Add the correction to the outermost rows and columns of (B, C, H, W), in place."""
        for end in (0, -1):
            maps[:, :, end] += self.difference[:, :, end]
            maps[:, :, 1:-1, end] += self.difference[:, :, 1:-1, end]
        return maps


def interior(weight: Tensor, shift: Tensor) -> Tensor:
    """Convolve a map that equals `shift` (C,) everywhere, away from the border.

    The kernel is (D, C / groups, 3, 3), and the result is (D,).
    """
    taps = weight.sum((2, 3))  # (D, C / groups)
    return taps @ shift if taps.shape[1] > 1 else taps[:, 0] * shift


def fold_norm_before(weight: Tensor, bias: Tensor, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Return weight and bias of conv(norm(x)), exact except at a zero-padded border."""
    scale, shift = norm.affine_terms()
    scaled = weight * (
        scale[None, :, None, None] if weight.shape[1] > 1 else scale[:, None, None, None]
    )
    return scaled, bias + interior(weight, shift)


class FoldedResidualDepthwise(FoldedConv):
    """`ResidualDepthwise` with the identity added to its weights.

    It stays in float32, because it carries the residual stream.
    """

    def __init__(self, conv: ResidualDepthwise) -> None:
        super().__init__(conv, torch.float32, weight=conv.weight + conv.identity)


class FoldedStem(nn.Module):
    """`Stem` in float32, without its last normalisation.

    That one is folded into the patch embedding that follows (:class:`FoldedPatchEmbed`).
    """

    def __init__(self, stem: Stem, grid: Grid) -> None:
        super().__init__()
        self.conv1 = FoldedConv(stem.conv1, torch.float32)
        self.conv2, self.border2 = self._after_norm(stem.conv2, stem.norm1, grid)
        self.conv3, self.border3 = self._after_norm(stem.conv3, stem.norm2, grid)

    @staticmethod
    def _after_norm(conv: nn.Conv2d, norm: BatchNorm, grid: Grid) -> tuple[FoldedConv, Border]:
        assert conv.bias is not None
        weight, bias = fold_norm_before(conv.weight, conv.bias, norm)
        border = Border(conv.weight, norm.affine_terms()[1], grid, conv.groups, torch.float32)
        return FoldedConv(conv, torch.float32, weight=weight, bias=bias), border

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to a channels-last map (B, C, H/2, W/2)."""
        x = F.gelu(self.conv1(images.contiguous(memory_format=torch.channels_last)))
        x = F.gelu(self.border2.add_to(self.conv2(x)))
        return F.gelu(self.border3.add_to(self.conv3(x)))


class FoldedPatchEmbed(nn.Module):
    """`PatchEmbed` in float32, together with the normalisation before it if there is one.

    Its patches do not overlap and there is no padding, so the normalisation folds exactly.
    """

    def __init__(self, embed: PatchEmbed, norm_before: BatchNorm | None = None) -> None:
        super().__init__()
        conv = embed.proj
        assert conv.bias is not None
        weight, bias = conv.weight, conv.bias
        if norm_before is not None:
            weight, bias = fold_norm_before(weight, bias, norm_before)
        self.proj = FoldedConv(conv, torch.float32, weight=weight, bias=bias)
        self.norm = embed.norm

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, H, W) to float32 tokens (B, HW/patch^2, D)."""
        return self.norm(as_tokens(self.proj(maps)))


class FoldedMLP(nn.Module):
    """`InvertedResidualMLP` as three linear steps with a GELU between them."""

    def __init__(self, mlp: InvertedResidualMLP, grid: Grid, dtype: torch.dtype) -> None:
        super().__init__()
        depthwise = mlp.depthwise
        assert depthwise.bias is not None
        kernel = depthwise.weight + depthwise.identity
        weight, bias = fold_norm_before(kernel, depthwise.bias, mlp.expand_norm)
        self.expand = FoldedPointwise(mlp.expand.weight, mlp.expand.bias, dtype)
        self.depthwise = FoldedConv(depthwise, dtype, weight=weight, bias=bias)
        self.border = Border(
            kernel, mlp.expand_norm.affine_terms()[1], grid, depthwise.groups, dtype
        )
        self.project = FoldedPointwise(*mlp.folded_projection(), dtype)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Map tokens (B, H*W, C) on the H x W grid to (B, H*W, C)."""
        hidden = F.gelu(self.expand(tokens))  # (B, H*W, hidden)
        hidden = self.border.add_to(self.depthwise(as_map(hidden, grid)))
        return self.project(F.gelu(as_tokens(hidden)))


class FoldedAttention(nn.Module):
    """`ReducedAttention` with fewer operations.

    The scale of the products is in the weights of the queries, the normalisation is in the reducing
    convolution, and linear maps of the same tokens are one product.
    """

    def __init__(self, attention: ReducedAttention, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = attention.heads
        q, k, v = attention.q, attention.k, attention.v
        scale = (q.out_features // attention.heads) ** -0.5
        self.reduce: FoldedConv | None = None
        self.q: FoldedPointwise | None = None
        if attention.reduce is not None and attention.reduce_norm is not None:
            self.reduce = _fold_norm_after(attention.reduce, attention.reduce_norm, dtype)
            self.q = _stacked([q], [scale], dtype)
            self.shared = _stacked([k, v], [1.0, 1.0], dtype)
        else:
            self.shared = _stacked([q, k, v], [scale, 1.0, 1.0], dtype)
        self.proj = FoldedPointwise(attention.proj.weight, attention.proj.bias, dtype)

    def forward(self, tokens: Tensor, grid: Grid, position_bias: Tensor) -> Tensor:
        """Attend from tokens (B, N, C) to the coarse grid, as `ReducedAttention` does."""
        if self.reduce is None or self.q is None:
            q, k, v = self.shared(tokens).chunk(3, dim=2)
        else:
            tokens = tokens.to(self.q.weight.dtype)
            q = self.q(tokens)
            k, v = self.shared(as_tokens(self.reduce(as_map(tokens, grid)))).chunk(2, dim=2)
        return self.proj(attend_by_softmax_in_float32(q, k, v, self.heads, position_bias))


class FoldedSelfAttention(nn.Module):
    """`SelfAttention` with the scale of the products in the weights of the queries."""

    diagonal: Tensor | None

    def __init__(self, attention: SelfAttention, tokens: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.heads = attention.heads
        qkv, dim = attention.qkv, attention.qkv.in_features
        gain = torch.ones(3 * dim)
        gain[:dim] = attention.scale
        self.qkv = FoldedPointwise(qkv.weight * gain[:, None], qkv.bias * gain, dtype)
        diagonal = (
            attention.diagonal * attention.scale * torch.eye(tokens) if attention.diagonal else None
        )
        self.register_buffer("diagonal", diagonal)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, E) to the same shape."""
        weights = self.heads * tokens.shape[1] ** 2
        return in_cache(self._attend, tokens, weights)

    def _attend(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).chunk(3, dim=2)
        return attend_by_softmax_in_float32(q, k, v, self.heads, self.diagonal)


def attend_by_softmax_in_float32(
    q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None
) -> Tensor:
    """Compute softmax(q k^T + bias) v of tokens (B, N, C), where q is scaled already."""
    # On a GPU torch's fused kernel is used. On a CPU these operations are up to twice as fast as
    # the fused kernel in bfloat16.
    q, k, v = (split_heads(x, heads) for x in (q, k, v))
    if q.is_cuda:
        mask = None if bias is None else bias.to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
    else:
        logits = q @ k.transpose(2, 3)
        weights = (logits if bias is None else logits + bias).softmax(dim=3, dtype=torch.float32)
        mixed = weights.to(v.dtype) @ v
    return mixed.transpose(1, 2).flatten(2)


def _stacked(maps: list[Pointwise], gains: list[float], dtype: torch.dtype) -> FoldedPointwise:
    """Stack linear maps of the same tokens to one, each multiplied by its gain."""
    weight = torch.cat([gain * part.weight for part, gain in zip(maps, gains, strict=True)])
    if maps[0].bias is None:
        return FoldedPointwise(weight, None, dtype)
    return FoldedPointwise(
        weight, torch.cat([gain * part.bias for part, gain in zip(maps, gains, strict=True)]), dtype
    )


def _fold_norm_after(conv: nn.Conv2d, norm: BatchNorm, dtype: torch.dtype) -> FoldedConv:
    gain, shift = norm.affine_terms()
    assert conv.bias is not None
    return FoldedConv(
        conv, dtype, weight=conv.weight * gain[:, None, None, None], bias=conv.bias * gain + shift
    )
