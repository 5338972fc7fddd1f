"""Convolutional parts of TCGN: stem, patch embedding, inverted-residual MLP and ConvNeXt stages.

A feature map is kept in channels-last memory. Then `as_tokens` and `as_map` are views, and no layer
copies anything to go from tokens (B, N, C) to a map (B, C, H, W) and back.

References
----------
Guo et al., CMT: Convolutional Neural Networks Meet Vision Transformers, CVPR 2022.
Liu et al., A ConvNet for the 2020s (ConvNeXt), CVPR 2022.
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91
(2024) 103040.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcgn_mil.layers.cpu.onednn import conv2d

Grid = tuple[int, int]
LAYER_SCALE = 1e-6


def as_map(tokens: Tensor, grid: Grid) -> Tensor:
    """View tokens (B, H*W, C) as a channels-last map (B, C, H, W)."""
    return tokens.reshape(tokens.shape[0], *grid, tokens.shape[2]).permute(0, 3, 1, 2)


def as_tokens(maps: Tensor) -> Tensor:
    """View a channels-last map (B, C, H, W) as tokens (B, H*W, C)."""
    return maps.flatten(2).transpose(1, 2)


def pointwise(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a linear map to the channels of each token.

    Parameters
    ----------
    tokens
        (B, N, C).
    weight, bias
        (D, C) and (D,).

    Returns
    -------
    (B, N, D).

    Notes
    -----
    On a CPU it runs as a 1x1 convolution, because oneDNN's convolution is about twice as fast as
    the matrix product of BLAS.
    """
    if tokens.is_cuda:
        return F.linear(tokens, weight, bias)
    row = tokens.transpose(1, 2).unsqueeze(2)  # (B, C, 1, N), channels-last
    return conv2d(row, weight[:, :, None, None], bias).squeeze(2).transpose(1, 2)


class Pointwise(nn.Linear):
    """Linear layer over the channels of tokens, by :func:`pointwise`."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, C) to (B, N, D)."""
        return pointwise(tokens, self.weight, self.bias)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of tokens.

    In evaluation mode it is one fused multiply-add. In training, a single image of N positions is
    normalised as N images of one position. The statistics are the same, and this avoids an error of
    torch (seen in version 2.15): on a CPU, the backward pass for one image is silently wrong if the
    gradient arrives in another memory format than the map.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise tokens (B, N, C)."""
        if not self.training:
            scale, shift = self.affine_terms()
            return torch.addcmul(shift.to(tokens.dtype), tokens, scale.to(tokens.dtype))
        batch, count, _ = tokens.shape
        if batch == 1:
            return super().forward(tokens[0, :, :, None, None]).flatten(1).unsqueeze(0)
        return as_tokens(super().forward(as_map(tokens, (1, count))))

    def affine_terms(self) -> tuple[Tensor, Tensor]:
        """Return the scale and the shift, (C,) each, that evaluation mode applies.

        With running mean m and variance v, gamma (x - m) / sqrt(v + eps) + beta = scale x + shift.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class ResidualDepthwise(nn.Conv2d):
    """Depthwise 3x3 convolution whose input is added to its output, in one pass.

    Adding one to the centre of each kernel adds the input, x + conv(x) = conv'(x).
    """

    identity: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 3, padding=1, groups=dim)
        self.register_buffer(
            "identity", F.pad(torch.ones(1, 1, 1, 1), (1, 1, 1, 1)), persistent=False
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, H, W) to x + conv(x) of the same shape."""
        return conv2d(
            maps, self.weight + self.identity, self.bias, padding=(1, 1), groups=self.groups
        )


class Stem(nn.Module):
    """Three 3x3 convolutions, each followed by GELU and batch normalisation.

    The first one halves the resolution.
    """

    def __init__(self, dim: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, dim, 3, stride=2, padding=1)
        self.norm1 = BatchNorm(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm2 = BatchNorm(dim)
        self.conv3 = nn.Conv2d(dim, dim, 3, padding=1)
        self.norm3 = BatchNorm(dim)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to a channels-last map (B, C, H/2, W/2)."""
        x = images.contiguous(memory_format=torch.channels_last)
        for conv, norm in (
            (self.conv1, self.norm1),
            (self.conv2, self.norm2),
            (self.conv3, self.norm3),
        ):
            x = F.gelu(conv(x))
            x = as_map(norm(as_tokens(x)), (x.shape[2], x.shape[3]))
        return x


class PatchEmbed(nn.Module):
    """Convolution whose stride equals its kernel, followed by layer normalisation.

    Each token describes one patch; patches do not overlap.
    """

    def __init__(self, in_dim: int, dim: int, patch: int = 2) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_dim, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, H, W) to tokens (B, HW/patch^2, D)."""
        return self.norm(as_tokens(self.proj(maps)))


class InvertedResidualMLP(nn.Module):
    """Feed-forward part of CMT: expand, depthwise 3x3 convolution with identity, project.

    GELU and batch normalisation follow the first two steps; batch normalisation follows the last.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = Pointwise(dim, hidden)
        self.expand_norm = BatchNorm(hidden)
        self.depthwise = ResidualDepthwise(hidden)
        self.depthwise_norm = BatchNorm(hidden)
        self.project = Pointwise(hidden, dim)
        self.project_norm = BatchNorm(dim)

    def forward(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Map tokens (B, H*W, C) on the H x W grid to (B, H*W, C)."""
        hidden = self.expand_norm(F.gelu(self.expand(tokens)))  # (B, H*W, hidden)
        hidden = F.gelu(as_tokens(self.depthwise(as_map(hidden, grid))))
        if not self.training:
            return pointwise(hidden, *self.folded_projection())
        return self.project_norm(self.project(self.depthwise_norm(hidden)))

    def folded_projection(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the projection with the normalisations around it.

        In evaluation mode both normalisations are affine. With scales s and shifts t (1 before, 2
        after), s2 (W (s1 x + t1) + b) + t2 = (s2 W s1) x + (s2 (W t1 + b) + t2).
        """
        scale_in, shift_in = self.depthwise_norm.affine_terms()
        scale_out, shift_out = self.project_norm.affine_terms()
        bias = torch.addmv(self.project.bias, self.project.weight, shift_in)
        return scale_out[:, None] * self.project.weight * scale_in, scale_out * bias + shift_out


class Bottleneck(nn.Module):
    """ConvNeXt bottleneck, x + gamma * project(GELU(expand(GN(depthwise 7x7 of x)))).

    The normalisation is a group normalisation with one group, as in the published network;
    ConvNeXt itself has a layer normalisation there.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim, bias=False)
        self.norm = nn.GroupNorm(1, dim)
        self.expand = Pointwise(dim, 4 * dim)
        self.project = Pointwise(4 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), LAYER_SCALE))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        hidden = F.gelu(self.expand(as_tokens(self.norm(self.depthwise(maps)))))
        return maps + as_map(self.gamma * self.project(hidden), (maps.shape[2], maps.shape[3]))


class ConvNeXtStage(nn.Module):
    """Group normalisation, a 2x2 convolution that halves the resolution, and bottlenecks."""

    def __init__(self, in_dim: int, dim: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, in_dim)
        self.downsample = nn.Conv2d(in_dim, dim, 2, stride=2)
        self.bottlenecks = nn.Sequential(*(Bottleneck(dim) for _ in range(depth)))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, D, H/2, W/2)."""
        return self.bottlenecks(self.downsample(self.norm(maps)))
