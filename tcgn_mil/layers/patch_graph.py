"""Build the attention graph of a feature map, whose nodes are patches.

The N patches of a grid are the nodes. The K largest entries of the attention, averaged over heads,
are the directed edges. An edge from i to j is written as the flat index ``i * N + j``, and edges
are in ascending order. K is fixed, so all shapes are static and nothing is read back from a GPU.

Departures from the published code:

- There are exactly K edges for each image, and ties are broken by the lowest index. In the
  published code, ties can change the number of edges.
- A node without outgoing edges gets zeros in the normalised adjacency. In the published code the
  division by its degree gives NaN.

References
----------
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91
(2024) 103040.
Jiang et al., CensNet: Convolution with Edge-Node Switching in Graph Neural Networks, IJCAI 2019.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EDGES_PER_NODE = 4
MIN_NORM2 = 1e-24


class PatchGraph(NamedTuple):
    """Structure of B directed graphs of N nodes and K edges. No gradient flows into it.

    Attributes
    ----------
    edges
        (B, K) int64, flat indices ``i * N + j`` in ascending order.
    source, target
        (B * K,) int64, rows of the two ends in a matrix (B * N, C) of node values.
    is_loop
        (B, K) bool, whether i = j.
    has_reverse
        (B, K) bool, whether i and j differ and (j, i) is an edge as well.
    adjacency
        (B, N, N) normalised adjacency S~ = D^-1/2 S D^-1/2, where S is 1 at edges and D holds its
        row sums. Rows and columns of nodes without outgoing edges are zero.
    edge_scale
        (B, K), d_e = 1 / sqrt(1 + number of edges that share an end with e, itself included).
    rival_source, rival_target
        (B, K), the largest T_ie d_e over the edges e that share only the source (only the target)
        with this edge; 0 if there is none. T_ie is 2 for a loop and 1 otherwise.
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
    """Find the largest entries of each matrix.

    Parameters
    ----------
    attention
        (B, N, N), not negative.
    count
        K, the number of entries to keep. Of equal entries, those with the lowest index are kept.

    Returns
    -------
    (B, K) int64 flat indices, ascending.

    Notes
    -----
    `topk` alone leaves open which of several equal entries it returns, and devices differ in it. So
    each entry gets a key that is unique:

        key = bits(value) * 2^b + (size - 1 - index),  b = number of bits of an index.

    The 31 bits of a float32 that is not negative, read as an integer, order as the value does. For
    equal values the lower index has the larger key. A key has at most 31 + 22 = 53 bits, so it is
    exact in float64, whose arithmetic is faster on a CPU than that of int64.

    Ranking takes two steps, to compare fewer entries. The entries are split into groups. An entry
    among the K largest lies in one of the K groups with the largest maxima: otherwise K groups
    would each hold a larger entry. So only the entries of those groups are compared with one
    another.
    """
    flat = attention.detach().float().flatten(1).contiguous()  # (B, N * N)
    size = flat.shape[1]
    bits = size.bit_length()
    assert bits <= 22, "value and index must fit the 53 bits of a float64"
    reversed_index = torch.arange(size - 1, -1, -1, dtype=torch.float64, device=flat.device)
    keys = torch.add(reversed_index, flat.view(torch.int32).double(), alpha=1 << bits)
    groups = keys.unflatten(1, (-1, _group_size(size, count)))  # (B, groups, group size)
    best = groups.amax(2).topk(count, dim=1, sorted=False).indices  # (B, K) groups
    candidates = groups.gather(1, best[:, :, None].expand(-1, -1, groups.shape[2])).flatten(1)
    # The low bits of the K largest keys are the reversed indices.
    chosen = candidates.topk(count, dim=1, sorted=False).values.long() & ((1 << bits) - 1)
    return (size - 1 - chosen).sort(dim=1).values


def _group_size(size: int, count: int) -> int:
    """Choose the entries per group so that there are at least `count` groups of equal size."""
    return next(group for group in (7, 4, 2, 1) if size % group == 0 and size // group >= count)


def build_graph(edges: Tensor, nodes: int, dtype: torch.dtype = torch.float32) -> PatchGraph:
    """Derive the structure of graphs from their edges.

    Parameters
    ----------
    edges
        (B, K) int64, flat indices ``i * N + j`` in ascending order.
    nodes
        N, the number of nodes.
    dtype
        Floating dtype of the result.
    """
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
    scale = edge_scale(links, outgoing, i, j, is_loop, has_reverse)  # (B, K)
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
    """Return D^-1/2 S D^-1/2 of matrices S (B, N, N) with row sums D (B, N).

    Rows and columns whose sum is zero become zero.
    """
    scale = torch.where(outgoing > 0, outgoing.clamp(min=1).rsqrt(), 0.0)
    return links * scale[:, :, None] * scale[:, None, :]


def edge_scale(
    links: Tensor, outgoing: Tensor, i: Tensor, j: Tensor, is_loop: Tensor, has_reverse: Tensor
) -> Tensor:
    """Return d (B, K), where 1 / d^2 is one plus the number of edges that meet an edge.

    The edge itself is among those that meet it. The edges at its two ends are added
    up, and those that lie at both ends are subtracted once: the edge itself and its reverse. For a
    loop both ends are the same node, so all its edges lie at both ends.
    """
    incident = outgoing + links.sum(1) - links.diagonal(dim1=1, dim2=2)
    at_source, at_target = incident.gather(1, i), incident.gather(1, j)
    at_both = torch.where(is_loop, at_source, 1.0 + has_reverse)
    return (at_source + at_target - at_both + 1.0).rsqrt()


def rival_scales(ends: Tensor, scale: Tensor, edges: Tensor, nodes: int) -> Tensor:
    """Return for each edge the largest T_ie d_e over the edges e that share only one end with it.

    Parameters
    ----------
    ends
        (2, B, K), sources and targets.
    scale
        (B, K), T_ie d_e: the scale of an edge, or twice the scale of a loop.
    edges
        (B, K) flat indices.
    nodes
        N, the number of nodes.

    Returns
    -------
    (2, B, K), for the edges that share the source and for those that share the target; 0 if there
    is no such edge.

    Notes
    -----
    Entry (i, j) of a symmetric N x N matrix holds the larger value of the edge (i, j) and of its
    reverse. The edges that share only the end i with an edge (i, j) are the other entries of row i.
    Their maximum is the largest entry of row i, or the second largest if the largest is entry
    (i, j) itself. So two entries for each row are enough.
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
    """Sum edge values (B, K, C) over the edges at each node, (B, N, C); a loop counts twice."""
    batch, _, width = values.shape
    rows = values.flatten(0, 1)
    sums = rows.new_zeros(batch * graph.adjacency.shape[1], width)
    for end in (graph.source, graph.target):
        sums = sums.scatter_add(0, end[:, None].expand(-1, width), rows)
    return sums.unflatten(0, (batch, -1))


def at_ends(values: Tensor, graph: PatchGraph) -> tuple[Tensor, Tensor]:
    """Return node values (B, N, C) at the source and at the target of each edge, (B, K, C) each."""
    rows, width = values.flatten(0, 1), values.shape[2]
    shape = (graph.edges.shape[0], -1)
    source = rows.gather(0, graph.source[:, None].expand(-1, width))
    target = rows.gather(0, graph.target[:, None].expand(-1, width))
    return source.unflatten(0, shape), target.unflatten(0, shape)


def grid_proximity(grid: tuple[int, int]) -> Tensor:
    """Return 1 / (d / 3 + 1) for each ordered pair of patches, (N * N,).

    d is the Euclidean distance on the grid, in patches.
    """
    rows, columns = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij"
    )
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1)
    return 1.0 / (torch.cdist(places, places).flatten() / 3.0 + 1.0)


def edge_features(attention: Tensor, nodes: Tensor, proximity: Tensor, graph: PatchGraph) -> Tensor:
    """Describe each edge by its attention, and by the proximity and similarity of its ends.

    Parameters
    ----------
    attention
        (B, heads, N, N).
    nodes
        (B, N, E) node features X.
    proximity
        (N * N,), from :func:`grid_proximity`.
    graph
        B graphs of K edges.

    Returns
    -------
    (B, K, heads + 4): the attention of each head, its mean, the proximity, the closeness
    1 / sqrt(|X_i - X_j|^2 / s + 1) with s = E // 2, and the alignment (cos(X_i, X_j) + 1) / 2.
    """
    heads, count = attention.shape[1], nodes.shape[1]
    per_head = attention.flatten(2).gather(2, graph.edges[:, None].expand(-1, heads, -1))
    # Distances and cosines follow from scalar products, |X_i - X_j|^2 = |X_i|^2 + |X_j|^2 - 2 X_i
    # X_j. The products of all pairs cost less than gathering the features at both ends of each
    # edge, and their gradient costs far less.
    products = nodes @ nodes.transpose(1, 2)  # (B, N, N)
    product = products.flatten(1).gather(1, graph.edges)  # (B, K)
    norm2 = products.diagonal(dim1=1, dim2=2)  # (B, N)
    i, j = graph.edges // count, graph.edges % count
    distance2 = (norm2.gather(1, i) + norm2.gather(1, j) - 2.0 * product).clamp(min=0.0)
    closeness = torch.rsqrt(distance2 / (nodes.shape[2] // 2) + 1.0)
    inverse = norm2.clamp(min=MIN_NORM2).rsqrt()
    alignment = (product * inverse.gather(1, i) * inverse.gather(1, j) + 1.0) / 2.0
    rest = [per_head.mean(1), proximity.to(nodes.dtype)[graph.edges], closeness, alignment]
    return torch.stack([*per_head.unbind(1), *rest], dim=2)
