"""Convolve node features and edge features with each other (CensNet), in closed form.

CensNet alternates between a graph of nodes and a graph of edges, in which two edges are neighbours
if they share an end. It writes both layers as dense products with the incidence matrix T (N, K),
where T_ie is the number of ends that edge e has at node i: 1, or 2 for a loop. With N = 196 nodes
and K = 784 edges, the K x K matrices of the edge layer would dominate the cost of the network. Both
layers have a closed form on the list of edges ("o" is the product of entries):

**Node layer.** X' = (M o S~) X W + b with M = T diag(w) T^T, where w_e = z_e . p is a weight of
edge e from its features z_e, and the diagonal of M is set to one. S~ is the normalised adjacency.

Off the diagonal, M_ij is the sum of w over the edges that join i and j, which are (i, j) and its
reverse (j, i). So M is w, scattered into an N x N matrix, plus its transpose.

**Edge layer.** Z' = Q Z W + b, where Q is M with each column divided by its maximum, and
M = (T^T diag(n) T) o (d d^T). Here n_i = x_i . p is a weight of node i, d_e is the inverse square
root of one plus the degree of edge e, and the diagonal of T^T diag(n) T is set to one.

Apart from the diagonal, (M v)_e = d_e sum_i T_ie n_i (sum_f T_if d_f v_f). Read from the right,
this sums edge values at the nodes, weights them by n and reads them at the two ends of each edge.
The term of the edge itself, which is (sum_i T_ie^2 n_i) d_e v_e, is then replaced by d_e v_e.

The maximum of column f is d_f times the largest of four candidates: d_f of the edge itself, the
entry of its reverse, and at either end the entry of the edge with the largest T_ie d_e. No other
edge at that end can win, since n_i is the same for all of them.

References
----------
Jiang et al., CensNet: Convolution with Edge-Node Switching in Graph Neural Networks, IJCAI 2019.
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91
(2024) 103040.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcgn_mil.layers.dropout import Dropout
from tcgn_mil.layers.patch_graph import PatchGraph, at_ends, sum_at_nodes


class _SwitchLayer(nn.Module):
    """Parameters of both layers: weight (in, out), bias (out,), and `p` for the other features."""

    def __init__(self, in_dim: int, out_dim: int, other_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))
        self.p = nn.Parameter(torch.empty(1, other_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.p)


class NodeLayer(_SwitchLayer):
    """Update node features, X' = (M o S~) X W + b; M is defined at the top of this module."""

    def forward(self, nodes: Tensor, edges: Tensor, graph: PatchGraph) -> Tensor:
        """Map node features (B, N, C), given edge features (B, K, F), to (B, N, D)."""
        batch, count, _ = nodes.shape
        weight = F.linear(edges, self.p).squeeze(2)  # (B, K)
        one_way = (
            weight.new_zeros(batch, count * count)
            .scatter(1, graph.edges, weight)
            .view(batch, count, count)
        )
        diagonal = torch.eye(count, dtype=torch.bool, device=nodes.device)
        both_ways = (one_way + one_way.transpose(1, 2)).masked_fill(diagonal, 1.0)
        return (both_ways * graph.adjacency) @ (nodes @ self.weight) + self.bias


class EdgeLayer(_SwitchLayer):
    """Update edge features, Z' = Q Z W + b; Q is defined at the top of this module."""

    def forward(self, edges: Tensor, nodes: Tensor, graph: PatchGraph) -> Tensor:
        """Map edge features (B, K, F), given node features (B, N, C), to (B, K, D)."""
        node_weight = F.linear(nodes, self.p)  # (B, N, 1)
        ends = at_ends(node_weight, graph)
        at_source, at_target = ends[0].squeeze(2), ends[1].squeeze(2)  # (B, K) each
        scale = graph.edge_scale  # (B, K)
        maxima = self._column_maxima(at_source, at_target, graph)
        values = (edges @ self.weight) * (scale / maxima).unsqueeze(2)  # (B, K, D)
        sums = node_weight * sum_at_nodes(values, graph)  # (B, N, D)
        from_source, from_target = at_ends(sums, graph)  # (B, K, D) each
        # The term of the edge itself has T_ie^2: n at both ends, and 4 n for a loop (T_ie = 2).
        own = torch.where(graph.is_loop, 4.0 * at_source, at_source + at_target)
        mixed = from_source + from_target + (1.0 - own).unsqueeze(2) * values
        return mixed * scale.unsqueeze(2) + self.bias

    @staticmethod
    def _column_maxima(at_source: Tensor, at_target: Tensor, graph: PatchGraph) -> Tensor:
        """Return the column maxima of M (B, K), from the node weights at the ends of each edge.

        The diagonal is positive, so entries that are zero or negative are never the maximum.
        """
        scale = graph.edge_scale
        times = 1.0 + graph.is_loop.to(at_source.dtype)
        reverse = torch.where(graph.has_reverse, at_source + at_target, 0.0) * scale
        best = torch.maximum(scale, reverse)  # an edge and its reverse have the same scale
        best = torch.maximum(best, times * at_source * graph.rival_source)
        best = torch.maximum(best, times * at_target * graph.rival_target)
        return best * scale


class NodeEdgeConvolution(nn.Module):
    """A node layer, an edge layer and a node layer, with ReLU and dropout between them."""

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
