"""A stage of the CMT trunk: one resolution.

References
----------
Guo et al., CMT: Convolutional Neural Networks Meet Vision Transformers, CVPR 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tcgn_mil.layers.attention import CMTBlock
from tcgn_mil.layers.checkpointing import call, checkpointed
from tcgn_mil.layers.convolution import Grid, PatchEmbed
from tcgn_mil.layers.cpu_memory import in_cache


class CMTStage(nn.Module):
    """A patch embedding, then CMT blocks that share a position bias.

    `forward` runs the blocks alone, since something else may act on the embedded tokens first.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        grid: Grid,
        depth: int,
        heads: int,
        reduction: int,
        *,
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        positions = grid[0] * grid[1]
        self.grid = grid
        self.grad_checkpointing = False
        self.hidden_floats = positions * int(mlp_ratio * dim)
        self.position_bias = nn.Parameter(torch.empty(heads, positions, positions // reduction**2))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        self.patch_embed = PatchEmbed(in_dim, dim)
        self.blocks = nn.ModuleList(
            CMTBlock(dim, heads, mlp_ratio, reduction) for _ in range(depth)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Run the blocks on embedded tokens (B, H*W, C), keeping the shape."""
        return (
            self._run_blocks(tokens)
            if self.training
            else in_cache(self._run_blocks, tokens, self.hidden_floats)
        )

    def _run_blocks(self, tokens: Tensor) -> Tensor:
        run = checkpointed if self.grad_checkpointing and self.training else call
        for block in self.blocks:
            tokens = run(block, tokens, self.grid, self.position_bias)
        return tokens
