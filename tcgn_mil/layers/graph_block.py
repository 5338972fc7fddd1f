"""TCGN's graph block: a feature map to features of its 14 x 14 patches, by way of their attention graph.

References
----------
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91 (2024) 103040.
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
    """Attention weights from tokens to convolution tokens, softmax(q k^T / sqrt(E) + I), and node features."""

    def __init__(self, dim: int, heads: int = HEADS) -> None:
        super().__init__()
        self.heads = heads
        self.q = Pointwise(dim, dim)
        self.k = Pointwise(dim, dim)
        self.value = Pointwise(dim, dim)

    def forward(self, tokens: Tensor, conv_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map two (B, N, E) to attention (B, heads, N, N) and node features (B, N, E)."""
        q = split_heads(self.q(tokens), self.heads) * tokens.shape[2] ** -0.5
        k = split_heads(self.k(conv_tokens), self.heads)
        identity = torch.eye(tokens.shape[1], dtype=q.dtype, device=q.device)
        return (q @ k.transpose(2, 3) + identity).softmax(dim=3), self.value(conv_tokens)


class Fusion(nn.Module):
    """Edges to nodes, transform each, and mix their channels."""

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
        """Map nodes (B, N, D) and edges (B, K, F) to (B, N, D)."""
        at_nodes = self.edge_encoder(sum_at_nodes(edges, graph) / EDGES_PER_NODE)
        nodes = self.node_block(nodes, grid, position_bias)
        channels = torch.cat([nodes, at_nodes], dim=2).transpose(1, 2).contiguous()  # (B, D + F, N)
        return self.linear(self.channel_encoder(channels).transpose(1, 2).contiguous())


class GraphBlock(nn.Module):
    """Convolution and token paths, their attention graph, node-edge convolution, fusion.

    Parameters
    ----------
    in_dim
        C, channels of the input map; the graph is built on E = 2 C features.
    patch
        Input pixels per side of a patch: 4 or 2, reached by as many halvings on the convolution path.
    grid
        Patches per column and per row.
    node_dim, edge_dim
        Features of a node and of an edge after the node-edge convolution.
    encoder_ratio
        Expansion in the feed-forward part of the encoder over channels.
    dropout
        Dropout probability in node-edge convolution and encoders.
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
        """Map (B, C, H, W) to node features (B, N, node_dim).

        Parameters
        ----------
        maps
            (B, C, H, W) with H, W = grid * patch.
        edges
            (B, K) int64, flat indices ``i * N + j`` ascending, to hold the graph fixed; None to select the
            K = 4 N largest entries of the head-averaged attention.
        """
        conv_tokens = as_tokens(self.convnext(maps))
        tokens = self.token_block(self.patch_embed(maps), self.grid, self.position_bias)
        # Edges are a discrete choice and their features reach 1e-3 of one another: never in half precision.
        with torch.autocast(maps.device.type, enabled=False):
            if tokens.dtype != torch.float64:
                tokens, conv_tokens = tokens.float(), conv_tokens.float()
            attention, nodes = self.attention(tokens, conv_tokens)
            if edges is None:
                edges = select_edges(attention.mean(1), EDGES_PER_NODE * self.positions)
            graph = build_graph(edges, self.positions, tokens.dtype)
            features = edge_features(attention, nodes, self.proximity, graph)
            nodes, features = self.node_edge(nodes, features, graph)
        return self.fusion(nodes, features, graph, self.grid, self.position_bias)
