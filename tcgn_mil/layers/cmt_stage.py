"""A stage of the CMT trunk: all blocks that work at one resolution.

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
from tcgn_mil.layers.cpu.memory import in_cache


class CMTStage(nn.Module):
    """A patch embedding, followed by CMT blocks that share one position bias.

    `forward` runs the blocks alone. The model calls `patch_embed` itself, because in the third
    stage the channel attention acts on the embedded tokens before the blocks do.

    Parameters
    ----------
    in_dim, dim
        Channels of the input map and of the tokens.
    grid
        Rows and columns of tokens.
    depth
        Number of blocks.
    heads
        Number of attention heads.
    reduction
        Factor by which the grid of keys and values is coarsened along each axis.
    mlp_ratio
        Expansion of the MLP.
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
        """Run the blocks on embedded tokens (B, H*W, C); the shape stays the same."""
        if self.training:
            return self._run_blocks(tokens)
        return in_cache(self._run_blocks, tokens, self.hidden_floats)

    def _run_blocks(self, tokens: Tensor) -> Tensor:
        run_block = checkpointed if self.grad_checkpointing and self.training else call
        for block in self.blocks:
            tokens = run_block(block, tokens, self.grid, self.position_bias)
        return tokens
