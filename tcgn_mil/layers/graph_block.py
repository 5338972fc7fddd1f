"""TCGN's graph block: from a feature map to features of its 14 x 14 patches.

A convolution path and a token path describe the same patches. Attention from the one to the other
makes a graph of patches, and graph convolutions exchange features along its edges.

References
----------
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91
(2024) 103040.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tcgn_mil.layers.attention import CMTBlock, Encoder, split_heads
from tcgn_mil.layers.convolution import ConvNeXtStage, Grid, PatchEmbed, Pointwise, as_tokens
from tcgn_mil.layers.node_edge import NodeEdgeConvolution
from tcgn_mil.layers.patch_graph import (
    EDGES_PER_NODE,
    PatchGraph,
    build_graph,
    edge_features,
    grid_proximity,
    select_edges,
    sum_at_nodes,
)

HEADS = 2
MLP_RATIO = 4.0
GRAPH_LN_EPS = 1e-5


class GraphAttention(nn.Module):
    """Compute attention weights softmax(q k^T / sqrt(E) + I), and node features."""

    def __init__(self, dim: int, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.q = Pointwise(dim, dim)
        self.k = Pointwise(dim, dim)
        self.value = Pointwise(dim, dim)

    def forward(self, tokens: Tensor, conv_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from tokens to convolution tokens.

        Parameters
        ----------
        tokens, conv_tokens
            (B, N, E) each, from the token path and the convolution path.

        Returns
        -------
        Attention (B, heads, N, N), and node features (B, N, E).
        """
        q = split_heads(self.q(tokens), self.heads) * tokens.shape[2] ** -0.5
        k = split_heads(self.k(conv_tokens), self.heads)
        identity = torch.eye(tokens.shape[1], dtype=q.dtype, device=q.device)
        return (q @ k.transpose(2, 3) + identity).softmax(dim=3), self.value(conv_tokens)


class Fusion(nn.Module):
    """Bring edge features to the nodes, transform both kinds, and mix their channels."""

    def __init__(
        self,
        node_dim: int,
        edge_dim: int,
        positions: int,
        encoder_ratio: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.node_block = CMTBlock(node_dim, HEADS, MLP_RATIO, qkv_bias=False, ln_eps=GRAPH_LN_EPS)
        self.edge_encoder = Encoder(edge_dim, HEADS, dropout=dropout)
        self.channel_encoder = Encoder(positions, 4, ratio=encoder_ratio, dropout=dropout)
        self.linear = Pointwise(node_dim + edge_dim, node_dim)

    def forward(
        self, nodes: Tensor, edges: Tensor, graph: PatchGraph, grid: Grid, position_bias: Tensor
    ) -> Tensor:
        """Map nodes (B, N, D) and edges (B, K, F) to nodes (B, N, D)."""
        # Divided by the number of edges that leave a node on average.
        at_nodes = self.edge_encoder(sum_at_nodes(edges, graph) / EDGES_PER_NODE)  # (B, N, F)
        nodes = self.node_block(nodes, grid, position_bias)  # (B, N, D)
        channels = torch.cat([nodes, at_nodes], dim=2).transpose(1, 2).contiguous()  # (B, D + F, N)
        mixed = self.channel_encoder(channels)  # every channel is a token of N positions
        return self.linear(mixed.transpose(1, 2).contiguous())  # (B, N, D)


class GraphBlock(nn.Module):
    """Convolution and token paths, their attention graph, node-edge convolution, and fusion.

    Parameters
    ----------
    in_dim
        C, channels of the input map. The graph is built on E = 2 C features.
    patch
        Pixels of the input map on each side of a patch: 4 or 2. The convolution path reaches the
        grid of patches by two halvings or by one.
    grid
        Rows and columns of patches, N in all.
    node_dim, edge_dim
        Features of a node and of an edge after the node-edge convolution.
    encoder_ratio
        Expansion in the feed-forward part of the encoder over channels.
    dropout
        Dropout probability in the node-edge convolution and in the encoders.
    """

    proximity: Tensor

    def __init__(
        self,
        in_dim: int,
        patch: int,
        grid: Grid,
        node_dim: int = 48,
        edge_dim: int = 12,
        encoder_ratio: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        dim, positions = 2 * in_dim, grid[0] * grid[1]
        self.grid, self.positions = grid, positions
        self.position_bias = nn.Parameter(torch.empty(HEADS, positions, positions))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        widths = {4: [(in_dim, in_dim, 2), (in_dim, dim, 1)], 2: [(in_dim, dim, 2)]}[patch]
        self.convnext = nn.Sequential(*(ConvNeXtStage(*width) for width in widths))
        self.patch_embed = PatchEmbed(in_dim, dim, patch)
        self.token_block = CMTBlock(dim, HEADS, MLP_RATIO, qkv_bias=False, ln_eps=GRAPH_LN_EPS)
        self.attention = GraphAttention(dim)
        self.node_edge = NodeEdgeConvolution(dim, HEADS + 4, edge_dim, node_dim, dropout)
        self.fusion = Fusion(node_dim, edge_dim, positions, encoder_ratio, dropout)
        self.register_buffer("proximity", grid_proximity(grid), persistent=False)

    def forward(self, maps: Tensor, edges: Tensor | None = None) -> Tensor:
        """Map a feature map (B, C, H, W) to node features (B, N, node_dim).

        Parameters
        ----------
        maps
            (B, C, H, W), where H and W are the grid times the patch.
        edges
            (B, K) int64, edges to use instead of selecting them. They are flat indices
            ``i * N + j`` in ascending order. None selects the K = 4 N largest entries of the
            attention averaged over heads.
        """
        conv_tokens = as_tokens(self.convnext(maps))  # (B, N, E)
        tokens = self.token_block(self.patch_embed(maps), self.grid, self.position_bias)
        # The choice of edges is discrete, and values of competing edges are close (differences go
        # down to 1e-3). Half precision would choose other edges.
        with torch.autocast(maps.device.type, enabled=False):
            if tokens.dtype != torch.float64:
                tokens, conv_tokens = tokens.float(), conv_tokens.float()
            attention, nodes = self.attention(tokens, conv_tokens)  # (B, heads, N, N), (B, N, E)
            if edges is None:
                edges = select_edges(attention.mean(1), EDGES_PER_NODE * self.positions)
            graph = build_graph(edges, self.positions, tokens.dtype)
            features = edge_features(attention, nodes, self.proximity, graph)  # (B, K, heads + 4)
            nodes, features = self.node_edge(nodes, features, graph)  # (B, N, D), (B, K, F)
        return self.fusion(nodes, features, graph, self.grid, self.position_bias)  # (B, N, D)
