"""The attention graph of a feature map: which patches are linked, and how.

Nodes are the N patches of a grid; the K largest entries of the head-averaged attention are its directed
edges, written as flat indices ``i * N + j`` in ascending (row-major) order. K is fixed, so every shape is
static and nothing is read back from the device.

Departures from the published code, which ARCHITECTURE.md explains: exactly K edges, ties broken by the lowest
index; a node without outgoing edges gets zeros, not NaN.

References
----------
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91 (2024) 103040.
Jiang et al., CensNet: Convolution with Edge-Node Switching in Graph Neural Networks, IJCAI 2019.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EDGES_PER_NODE = 4
SMALLEST_NORM2 = 1e-24


class PatchGraph(NamedTuple):
    """The structure of B directed graphs of N nodes and K edges; no gradient flows into it.

    Attributes
    ----------
    edges
        (B, K) int64, ``i * N + j``, ascending.
    source, target
        (B * K,) int64, rows of the ends in a (B * N, C) matrix of node values.
    is_loop, has_reverse
        (B, K) bool: i = j; i != j and (j, i) is an edge too.
    adjacency
        (B, N, N), S~ = D^-1/2 S D^-1/2 with D the row sums of S; rows and columns of nodes without outgoing
        edges are zero.
    edge_scale
        (B, K), D^-1/2, where D counts the edges (itself included) that share an end with the edge.
    rival_source, rival_target
        (B, K), the largest T_ie D_e^-1/2 over the edges e that share just the source (target) with
        this edge; 0 where there is none.
    """

    edges: Tensor
    source: Tensor
    target: Tensor
    is_loop: Tensor
    has_reverse: Tensor
    adjacency: Tensor
    edge_scale: Tensor
    rival_source: Tensor
    rival_target: Tensor


def select_edges(attention: Tensor, count: int) -> Tensor:
    """Find the `count` largest entries of each matrix; of equal ones, those of lowest index.

    Each entry's 31 bits, which order as the values do since attention is not negative, and its reversed index make
    one integer, exact in float64 (whose arithmetic is faster on a CPU than that of int64). These keys are distinct,
    so the selection is the same on every device. They are ranked in two steps: an entry among the `count` largest lies
    in one of the `count` groups of largest maximum, so only the entries of those are compared with one another.

    Parameters
    ----------
    attention
        (B, N, N), not negative.
    count
        K, how many entries to keep.

    Returns
    -------
    (B, K) int64 flat indices, ascending.
    """
    flat = attention.detach().float().flatten(1).contiguous()
    size = flat.shape[1]
    bits = size.bit_length()
    assert bits <= 22, "value and index must fit the 53 bits of a float64"
    reversed_index = torch.arange(size - 1, -1, -1, dtype=torch.float64, device=flat.device)
    keys = torch.add(reversed_index, flat.view(torch.int32).double(), alpha=1 << bits)
    groups = keys.unflatten(1, (-1, _group_size(size, count)))
    best = groups.amax(2).topk(count, dim=1, sorted=False).indices
    candidates = groups.gather(1, best[:, :, None].expand(-1, -1, groups.shape[2])).flatten(1)
    chosen = candidates.topk(count, dim=1, sorted=False).values.long() & ((1 << bits) - 1)
    return (size - 1 - chosen).sort(dim=1).values


def _group_size(size: int, count: int) -> int:
    """How many entries a group has: of few, such that `size` splits into groups, no fewer than `count` of them."""
    return next(group for group in (7, 4, 2, 1) if size % group == 0 and size // group >= count)


def build_graph(edges: Tensor, nodes: int, dtype: torch.dtype = torch.float32) -> PatchGraph:
    """Derive the structure of graphs of `nodes` nodes from their edges (B, K); see `PatchGraph`."""
    batch = edges.shape[0]
    i, j = edges // nodes, edges % nodes
    offset = torch.arange(batch, device=edges.device)[:, None] * nodes
    is_loop = i == j
    links = torch.zeros(batch, nodes * nodes, dtype=dtype, device=edges.device).scatter_(
        1, edges, 1.0
    )
    has_reverse = links.gather(1, j * nodes + i).bool() & ~is_loop
    links = links.view(batch, nodes, nodes)
    outgoing = links.sum(2)
    scale = edge_scale(links, outgoing, i, j, is_loop, has_reverse)
    rivals = rival_scales(torch.stack([i, j]), scale * (1.0 + is_loop), edges, nodes)
    return PatchGraph(
        edges=edges,
        source=(i + offset).flatten(),
        target=(j + offset).flatten(),
        is_loop=is_loop,
        has_reverse=has_reverse,
        adjacency=normalised_adjacency(links, outgoing),
        edge_scale=scale,
        rival_source=rivals[0],
        rival_target=rivals[1],
    )


def normalised_adjacency(links: Tensor, outgoing: Tensor) -> Tensor:
    """D^-1/2 S D^-1/2 of 0/1 matrices (B, N, N), D their row sums (B, N); zero where a row sum is zero."""
    scale = torch.where(outgoing > 0, outgoing.clamp(min=1).rsqrt(), 0.0)
    return links * scale[:, :, None] * scale[:, None, :]


def edge_scale(
    links: Tensor, outgoing: Tensor, i: Tensor, j: Tensor, is_loop: Tensor, has_reverse: Tensor
) -> Tensor:
    """D^-1/2 (B, K), D the row sums of the edge adjacency, plus 1.

    An edge meets all edges at either end; those at both ends (itself, its reverse; for a loop, all) count once.
    """
    incident = outgoing + links.sum(1) - links.diagonal(dim1=1, dim2=2)
    at_source, at_target = incident.gather(1, i), incident.gather(1, j)
    at_both = torch.where(is_loop, at_source, 1.0 + has_reverse)
    return (at_source + at_target - at_both + 1.0).rsqrt()


def rival_scales(ends: Tensor, scale: Tensor, edges: Tensor, nodes: int) -> Tensor:
    """For each edge, the largest T_ie D_e^-1/2 over edges e that share just its end i, for both ends.

    Parameters
    ----------
    ends
        (2, B, K), the end i that is shared and, in the other order, the end that is not.
    scale
        (B, K), T_ie D_e^-1/2: twice the scale for a loop, of which i is both ends.

    Returns
    -------
    (2, B, K); 0 where there is no such edge.
    """
    one_way = (
        scale.new_zeros(scale.shape[0], nodes * nodes)
        .scatter_(1, edges, scale)
        .view(-1, nodes, nodes)
    )
    best, partner = torch.maximum(one_way, one_way.transpose(1, 2)).topk(2, dim=2)  # (B, N, 2)
    first, second, taken = (
        x.expand(2, -1, -1).gather(2, ends) for x in (best[..., 0], best[..., 1], partner[..., 0])
    )
    return torch.where(taken == ends.flip(0), second, first)


def sum_at_nodes(values: Tensor, graph: PatchGraph) -> Tensor:
    """T v: sum edge values (B, K, C) over the edges at each node, a loop counting twice: (B, N, C)."""
    batch, _, width = values.shape
    rows = values.flatten(0, 1)
    sums = rows.new_zeros(batch * graph.adjacency.shape[1], width)
    for end in (graph.source, graph.target):
        sums = sums.scatter_add(0, end[:, None].expand(-1, width), rows)
    return sums.unflatten(0, (batch, -1))


def at_ends(values: Tensor, graph: PatchGraph) -> tuple[Tensor, Tensor]:
    """Node values (B, N, C) at the source and at the target of each edge: two (B, K, C)."""
    rows, width = values.flatten(0, 1), values.shape[2]
    shape = (graph.edges.shape[0], -1)
    source = rows.gather(0, graph.source[:, None].expand(-1, width))
    target = rows.gather(0, graph.target[:, None].expand(-1, width))
    return source.unflatten(0, shape), target.unflatten(0, shape)


def grid_proximity(grid: tuple[int, int]) -> Tensor:
    """1 / (d/3 + 1) for each ordered pair of patches, d their distance on the grid: (N * N,)."""
    rows, columns = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij"
    )
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    return 1.0 / (torch.cdist(places, places).flatten() / 3.0 + 1.0)


def edge_features(attention: Tensor, nodes: Tensor, proximity: Tensor, graph: PatchGraph) -> Tensor:
    """Describe each edge by attention, grid proximity and similarity of its ends.

    Parameters
    ----------
    attention
        (B, heads, N, N).
    nodes
        Node features X (B, N, E).
    proximity
        (N * N,), from `grid_proximity`.
    graph
        B graphs of K edges.

    Returns
    -------
    (B, K, heads + 4): attention per head, its mean, proximity, 1 / sqrt((|X_i - X_j|^2 + s) / s) with
    s = E // 2, and (cos(X_i, X_j) + 1) / 2.
    """
    heads, count = attention.shape[1], nodes.shape[1]
    per_head = attention.flatten(2).gather(2, graph.edges[:, None].expand(-1, heads, -1))
    # Products of all pairs cost less than features gathered at both ends of each edge, and their gradient far less.
    products = nodes @ nodes.transpose(1, 2)
    product = products.flatten(1).gather(1, graph.edges)
    norm2 = products.diagonal(dim1=1, dim2=2)
    i, j = graph.edges // count, graph.edges % count
    distance2 = (norm2.gather(1, i) + norm2.gather(1, j) - 2.0 * product).clamp(min=0.0)
    closeness = torch.rsqrt(distance2 / (nodes.shape[2] // 2) + 1.0)
    inverse = norm2.clamp(min=SMALLEST_NORM2).rsqrt()
    alignment = (product * inverse.gather(1, i) * inverse.gather(1, j) + 1.0) / 2.0
    rest = [per_head.mean(1), proximity.to(nodes.dtype)[graph.edges], closeness, alignment]
    return torch.stack([*per_head.unbind(1), *rest], dim=2)
