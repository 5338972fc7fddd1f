"""What brings the tiles of a bag together: weights of tiles, and linear attention among them.

References: Ilse M, Tomczak JM, Welling M. Attention-based deep multiple instance learning. ICML 2018 (gated and plain
attention). Katharopoulos A et al. Transformers are RNNs: fast autoregressive transformers with linear attention. ICML
2020.

Shapes: B bags, N tiles (padded), E width of a tile's value, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TileAttention(nn.Module):
    """Weights of each tile, a softmax over the tiles of a bag of w^T tanh(V h), gated by sigmoid(U h) or not."""

    def __init__(self, width: int, hidden: int, heads: int, *, gated: bool) -> None:
        super().__init__()
        self.signal = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden) if gated else None
        self.weight = nn.Linear(hidden, heads, bias=False)  # a bias would cancel in the softmax

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, N, E), (B, N) bool -> (B, H, N) float32, zero at padding."""
        signal = torch.tanh(self.signal(values))
        if self.gate is not None:
            signal = signal * torch.sigmoid(self.gate(values))
        logits = self.weight(signal)
        return (
            logits.transpose(1, 2).float().masked_fill(~mask[:, None], -torch.inf).softmax(dim=-1)
        )


class MeanAttention(nn.Module):
    """Equal weights over the tiles of a bag."""

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, N, E), (B, N) bool -> (B, 1, N) float32, zero at padding."""
        weights = mask.float()
        return (weights / weights.sum(dim=1, keepdim=True))[:, None]


class LinearAttention(nn.Module):
    """A transformer layer whose attention costs N, not N squared: queries and keys pass elu + 1, and keys are summed
    with their values once for all tiles (Katharopoulos et al. 2020)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """(B, N, E), (B, N) bool -> (B, N, E)."""
        bags, tiles, width = values.shape
        parts = self.project(self.norm(values)).view(
            bags, tiles, 3, self.heads, width // self.heads
        )
        with torch.autocast(values.device.type, enabled=False):  # sums over 1e5 tiles need float32
            query, key, value = (
                part.transpose(1, 2) for part in parts.float().unbind(dim=2)
            )  # (B, H, N, E / H)
            query, key = (
                nn.functional.elu(query) + 1,
                (nn.functional.elu(key) + 1) * mask[:, None, :, None],
            )
            count = mask.sum(dim=1).view(-1, 1, 1, 1)
            context = key.transpose(2, 3) @ value / count  # (B, H, E / H, E / H)
            scale = query @ (key.sum(dim=2, keepdim=True) / count).transpose(2, 3)
            mixed = (
                (query @ context / scale.clamp(min=1e-6))
                .transpose(1, 2)
                .reshape(bags, tiles, width)
            )
        values = values + self.out(mixed.to(values.dtype))
        return values + self.mlp(values)


def max_pool(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(B, E) largest values over tiles, and (B, 1, N) the share of them that each tile gives."""
    embedding, tile = values.float().masked_fill(~mask[..., None], -torch.inf).max(dim=1)
    share = torch.zeros(mask.shape, device=values.device)
    share = share.scatter_add(1, tile, torch.full_like(embedding, 1 / values.shape[-1]))
    return embedding, share[:, None]
