"""The right edges are selected, and closed forms agree with dense definitions in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tcgn_mil.layers.node_edge import EdgeLayer, NodeLayer
from tcgn_mil.layers.patch_graph import (
    build_graph,
    edge_features,
    grid_proximity,
    select_edges,
    sum_at_nodes,
)


def random_edges(nodes: int, count: int, batch: int = 3, seed: int = 0) -> Tensor:
    """Draw edges with loops and reversed pairs; usually some nodes have no outgoing edge."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(batch, nodes, nodes, generator=generator)
    scores += 0.3 * torch.eye(nodes) + 0.5 * torch.rand(batch, nodes, 1, generator=generator)
    return select_edges(scores, count)


def dense_structure(edges: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the dense S~ (N, N), T (N, K) and L~ (K, K) of one graph, as CensNet defines them."""
    i, j = edges // nodes, edges % nodes
    one_hot = torch.eye(nodes, dtype=torch.float64)
    incidence = (one_hot[i] + one_hot[j]).T
    links = torch.zeros(nodes, nodes, dtype=torch.float64)
    links[i, j] = 1.0
    degree = links.sum(1)
    scale = torch.where(degree > 0, degree.clamp(min=1) ** -0.5, 0.0)
    meets = ((incidence.T @ incidence) > 0).double()
    edge_scale = (meets.sum(1) + 1) ** -0.5
    return scale[:, None] * links * scale, incidence, edge_scale[:, None] * meets * edge_scale


def with_unit_diagonal(matrix: Tensor) -> Tensor:
    eye = torch.eye(len(matrix), dtype=matrix.dtype)
    return matrix * (1 - eye) + eye


def dense_node_layer(layer: NodeLayer, nodes: Tensor, features: Tensor, edges: Tensor) -> Tensor:
    adjacency, incidence, _ = dense_structure(edges, len(nodes))
    product = with_unit_diagonal(
        incidence @ torch.diag((features @ layer.p.T).squeeze(1)) @ incidence.T
    )
    return (product * adjacency) @ nodes @ layer.weight + layer.bias


def dense_edge_layer(layer: EdgeLayer, features: Tensor, nodes: Tensor, edges: Tensor) -> Tensor:
    _, incidence, adjacency = dense_structure(edges, len(nodes))
    product = (
        with_unit_diagonal(incidence.T @ torch.diag((nodes @ layer.p.T).squeeze(1)) @ incidence)
        * adjacency
    )
    return (product / product.max(dim=0).values) @ features @ layer.weight + layer.bias


@pytest.mark.parametrize(("nodes", "count"), [(6, 4), (9, 20), (12, 48), (5, 25)])
@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0], ids=["positive", "negative", "mixed"])
def test_closed_forms_equal_the_dense_layers(nodes: int, count: int, sign: float) -> None:
    torch.manual_seed(nodes)
    edges = random_edges(nodes, count)
    graph = build_graph(edges, nodes, torch.float64)
    x = torch.randn(3, nodes, 7, dtype=torch.float64)
    x = (x.abs() * sign if sign else x).requires_grad_()
    z = torch.randn(3, count, 6, dtype=torch.float64, requires_grad=True)
    node_layer, edge_layer = NodeLayer(7, 5, 6).double(), EdgeLayer(6, 4, 7).double()
    if sign:
        edge_layer.p.data.abs_()
    for layer, found, dense in (
        (
            node_layer,
            node_layer(x, z, graph),
            lambda b: dense_node_layer(node_layer, x[b], z[b], edges[b]),
        ),
        (
            edge_layer,
            edge_layer(z, x, graph),
            lambda b: dense_edge_layer(edge_layer, z[b], x[b], edges[b]),
        ),
    ):
        expected = torch.stack([dense(b) for b in range(3)])
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        inputs = [x, z, layer.weight, layer.p]
        upstream = torch.randn_like(found)
        for ours, theirs in zip(
            torch.autograd.grad(found, inputs, upstream),
            torch.autograd.grad(expected, inputs, upstream),
            strict=True,
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_sum_at_nodes_counts_a_loop_twice() -> None:
    edges = torch.tensor([[0, 1, 5]])  # of 3 nodes: the loop (0, 0), (0, 1), (1, 2)
    sums = sum_at_nodes(torch.tensor([[[1.0], [10.0], [100.0]]]), build_graph(edges, 3))
    assert sums.flatten().tolist() == [12.0, 110.0, 100.0]


def test_constant_attention_keeps_the_first_edges_only() -> None:
    edges = select_edges(torch.full((2, 196, 196), 1 / 196), 784)
    assert torch.equal(edges, torch.arange(784).expand(2, -1))


@pytest.mark.parametrize(("nodes", "count"), [(196, 784), (30, 120), (30, 700), (5, 20), (14, 196)])
def test_ties_go_to_the_lowest_index_as_in_a_stable_sort(nodes: int, count: int) -> None:
    """The three sizes lead to groups of seven, four and one entries."""
    torch.manual_seed(0)
    attention = torch.randint(0, 5, (4, nodes, nodes)).float() / 7
    order = attention.flatten(1).sort(dim=1, descending=True, stable=True).indices
    assert torch.equal(select_edges(attention, count), order[:, :count].sort(dim=1).values)


def test_edge_features_follow_their_formulas() -> None:
    torch.manual_seed(0)
    attention, nodes = torch.rand(1, 2, 4, 4), torch.randn(1, 4, 6)
    edges = torch.tensor([[1, 7, 10]])  # (0, 1), (1, 3), the loop (2, 2) on a 2 x 2 grid
    found = edge_features(attention, nodes, grid_proximity((2, 2)), build_graph(edges, 4))[0]
    for row, (i, j, distance) in enumerate([(0, 1, 1.0), (1, 3, 1.0), (2, 2, 0.0)]):
        a, b = attention[0, :, i, j]
        x, y = nodes[0, i], nodes[0, j]
        similarity = (torch.dot(x, y) / x.norm() / y.norm() + 1) / 2
        closeness = (((x - y).square().sum() + 3) / 3) ** -0.5
        expected = torch.stack(
            [a, b, (a + b) / 2, torch.tensor(1 / (distance / 3 + 1)), closeness, similarity]
        )
        torch.testing.assert_close(found[row], expected)


def test_far_corners_of_the_grid_are_apart_by_its_diagonal() -> None:
    assert grid_proximity((14, 14))[195].item() == pytest.approx(1 / (13 * 2**0.5 / 3 + 1))
