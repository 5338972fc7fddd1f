"""Transformer layer whose attention costs memory and time in proportion to the number of tiles.

Softmax attention compares every tile with every other one, so a slide of N tiles costs N^2. With
a feature map phi in place of the softmax, the output of tile i is

    sum_j (phi(q_i) . phi(k_j)) v_j / sum_j (phi(q_i) . phi(k_j))
    = phi(q_i) . (sum_j phi(k_j) v_j^T) / (phi(q_i) . sum_j phi(k_j)),

and the two sums over j do not depend on i. They are computed once for the whole bag, so the cost
is proportional to N. As in the paper, phi(x) = elu(x) + 1, which is positive.

References
----------
Katharopoulos A et al. Transformers are RNNs: fast autoregressive transformers with linear
attention. ICML 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LinearAttention(nn.Module):
    """Pre-norm transformer layer with linear attention among the tiles of a bag.

    Parameters
    ----------
    width
        E, width of a tile's value.
    heads
        H, number of attention heads; it divides `width`.
    dropout
        Dropout probability in the feed-forward part.
    """

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
        """Let tiles attend to one another.

        Parameters
        ----------
        values
            (B, N, E) values of the tiles.
        mask
            (B, N) bool, True at tiles and False at padding.

        Returns
        -------
        (B, N, E). Values at padding are arbitrary.
        """
        bags, tiles, width = values.shape
        parts = self.project(self.norm(values))  # (B, N, 3 E)
        parts = parts.view(bags, tiles, 3, self.heads, width // self.heads)
        # Sums over 100,000 tiles lose their small terms in half precision.
        with torch.autocast(values.device.type, enabled=False):
            query, key, value = (
                part.transpose(1, 2) for part in parts.float().unbind(dim=2)
            )  # each (B, H, N, E / H)
            query = F.elu(query) + 1
            key = (F.elu(key) + 1) * mask[:, None, :, None]  # padding adds nothing to the sums
            # Both sums are divided by the number of tiles. The ratio stays the same, and the
            # numbers stay of order one for a bag of any size.
            count = mask.sum(dim=1).view(-1, 1, 1, 1)
            context = key.transpose(2, 3) @ value / count  # (B, H, E / H, E / H)
            scale = query @ (key.sum(dim=2, keepdim=True) / count).transpose(2, 3)  # (B, H, N, 1)
            mixed = query @ context / scale.clamp(min=1e-6)  # (B, H, N, E / H)
            mixed = mixed.transpose(1, 2).reshape(bags, tiles, width)  # (B, N, E)
        values = values + self.out(mixed.to(values.dtype))
        return values + self.mlp(values)
