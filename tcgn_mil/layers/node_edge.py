"""Convolution of node and edge features by each other (CensNet), in closed form on the edge list.

CensNet writes its layers with dense products by the incidence matrix T (N, K) and diagonal matrices. Here:

- node layer, (T diag(w) T^T with unit diagonal) o S~: S~ is zero off the edges, and off the diagonal the product
  is w of the edge (i, j) plus w of its reverse, so one scatter of w into an N x N matrix gives it;
- edge layer, (T^T diag(n) T with unit diagonal) o L~: L~ is the constant outer product of D^-1/2 wherever two
  edges share an end, and the product is zero elsewhere, so applying it takes a sum at nodes, a weighting by n and
  a gather at the two ends, corrected on the diagonal. The maximum of a column is over the edge itself, its
  reverse, and at each end the edge of largest D^-1/2 (the only one that can win, n being common to all of them).

References
----------
Jiang et al., CensNet: Convolution with Edge-Node Switching in Graph Neural Networks, IJCAI 2019.
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91 (2024) 103040.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcgn_mil.layers.dropout import Dropout
from tcgn_mil.layers.patch_graph import PatchGraph, at_ends, sum_at_nodes


class _SwitchLayer(nn.Module):
    """Parameters common to both layers: weight (in, out), bias (out,), and `p` that reads the other features."""

    def __init__(self, in_dim: int, out_dim: int, other_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))
        self.p = nn.Parameter(torch.empty(1, other_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.p)


class NodeLayer(_SwitchLayer):
    """X' = ((T diag(Z p^T) T^T with unit diagonal) o S~) X W + b."""

    def forward(self, nodes: Tensor, edges: Tensor, graph: PatchGraph) -> Tensor:
        """Map node features (B, N, C), given edge features (B, K, F), to (B, N, D)."""
        batch, count, _ = nodes.shape
        weight = F.linear(edges, self.p).squeeze(2)
        one_way = (
            weight.new_zeros(batch, count * count)
            .scatter(1, graph.edges, weight)
            .view(batch, count, count)
        )
        diagonal = torch.eye(count, dtype=torch.bool, device=nodes.device)
        both_ways = (one_way + one_way.transpose(1, 2)).masked_fill(diagonal, 1.0)
        return (both_ways * graph.adjacency) @ (nodes @ self.weight) + self.bias


class EdgeLayer(_SwitchLayer):
    """Z' = Q Z W + b, Q = M / (column maxima of M), M = (T^T diag(X p^T) T with unit diagonal) o L~."""

    def forward(self, edges: Tensor, nodes: Tensor, graph: PatchGraph) -> Tensor:
        """Map edge features (B, K, F), given node features (B, N, C), to (B, K, D)."""
        node_weight = F.linear(nodes, self.p)  # (B, N, 1)
        ends = at_ends(node_weight, graph)
        at_source, at_target = ends[0].squeeze(2), ends[1].squeeze(2)
        scale = graph.edge_scale
        values = (edges @ self.weight) * (
            scale / self._column_maxima(at_source, at_target, graph)
        ).unsqueeze(2)
        sums = node_weight * sum_at_nodes(values, graph)
        from_source, from_target = at_ends(sums, graph)
        own = torch.where(graph.is_loop, 4.0 * at_source, at_source + at_target)
        mixed = from_source + from_target + (1.0 - own).unsqueeze(2) * values
        return mixed * scale.unsqueeze(2) + self.bias

    @staticmethod
    def _column_maxima(at_source: Tensor, at_target: Tensor, graph: PatchGraph) -> Tensor:
        """Column maxima of M (B, K), from the node weights at the ends of each edge.

        They are positive, since the diagonal is; so zeros off the pattern and negative weights never win.
        """
        scale = graph.edge_scale
        times = 1.0 + graph.is_loop.to(at_source.dtype)
        reverse = torch.where(graph.has_reverse, at_source + at_target, 0.0) * scale
        best = torch.maximum(scale, reverse)
        best = torch.maximum(best, times * at_source * graph.rival_source)
        best = torch.maximum(best, times * at_target * graph.rival_target)
        return best * scale


class NodeEdgeConvolution(nn.Module):
    """Node, edge, node layer, with ReLU and dropout on both kinds of features between them."""

    def __init__(
        self,
        node_dim: int,
        edge_in_dim: int,
        edge_dim: int,
        node_out_dim: int,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.nodes1 = NodeLayer(node_dim, node_dim, edge_in_dim)
        self.edges = EdgeLayer(edge_in_dim, edge_dim, node_dim)
        self.nodes2 = NodeLayer(node_dim, node_out_dim, edge_dim)
        self.dropout = Dropout(dropout)

    def forward(self, nodes: Tensor, edges: Tensor, graph: PatchGraph) -> tuple[Tensor, Tensor]:
        """Map nodes (B, N, C) and edges (B, K, F) to nodes (B, N, D) and edges (B, K, E)."""
        nodes = self.dropout(F.relu(self.nodes1(nodes, edges, graph)))
        edges = self.dropout(F.relu(edges))
        edges = self.dropout(F.relu(self.edges(edges, nodes, graph)))
        nodes = self.dropout(F.relu(nodes))
        return self.nodes2(nodes, edges, graph), edges
