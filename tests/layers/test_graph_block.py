"""The graph block has correct gradients, and nodes without edges do no harm."""

from __future__ import annotations

import pytest
import torch

from tcgn_mil.layers.graph_block import GraphBlock
from tcgn_mil.layers.patch_graph import build_graph, select_edges


def small_block(patch: int) -> GraphBlock:
    """Return a block of 16 nodes in float64, each part of which has a visible effect."""
    torch.manual_seed(patch)
    block = GraphBlock(2, patch, (4, 4), node_dim=4, edge_dim=2, encoder_ratio=1).double().eval()
    for name, parameter in block.named_parameters():
        if not name.endswith(("norm1.weight", "norm2.weight")):
            torch.nn.init.normal_(parameter, std=0.5)
    return block


@pytest.mark.parametrize("patch", [4, 2])
def test_gradients_agree_with_finite_differences_at_fixed_edges(patch: int) -> None:
    block = small_block(patch)
    maps = torch.randn(2, 2, 4 * patch, 4 * patch, dtype=torch.float64, requires_grad=True)
    edges = select_edges(torch.rand(2, 16, 16) + 0.2 * torch.eye(16), 64)
    weight = torch.randn(2, 16, 4, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return (block(maps, edges) * weight).sum()

    tensors = {"maps": maps, **dict(block.named_parameters())}
    gradients = dict(zip(tensors, torch.autograd.grad(loss(), list(tensors.values())), strict=True))
    for name, tensor in tensors.items():
        direction = torch.randn_like(tensor)
        step = 1e-7
        with torch.no_grad():
            tensor += step * direction
            above = loss()
            tensor -= 2 * step * direction
            below = loss()
            tensor += step * direction
        slope, expected = (above - below) / (2 * step), (gradients[name] * direction).sum()
        assert slope.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6), name
        if not name.endswith("attention.k.bias"):
            assert gradients[name].norm() > 1e-6, f"{name} is detached"


def test_the_same_edges_given_or_chosen_give_the_same_nodes() -> None:
    block = small_block(2)
    maps = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    chosen = []
    block.attention.register_forward_hook(lambda module, inputs, output: chosen.append(output[0]))
    expected = block(maps)
    edges = select_edges(chosen[0].mean(1), 64)
    assert torch.equal(block(maps, edges), expected)


def test_edges_do_not_depend_on_autocast_precision() -> None:
    block = small_block(2).float()
    seen = []
    block.attention.register_forward_hook(
        lambda module, inputs, output: seen.append(output[0].dtype)
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nodes = block(torch.randn(1, 2, 8, 8))
    assert seen == [torch.float32]
    assert nodes.isfinite().all()


def test_nodes_without_outgoing_edges_stay_finite() -> None:
    block = small_block(2)
    maps = torch.randn(1, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    edges = torch.arange(64)[None]  # all edges leave nodes 0 to 3
    nodes = block(maps, edges)
    nodes.square().sum().backward()
    assert nodes.isfinite().all()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert build_graph(edges, 16).adjacency[0, 4:].abs().sum() == 0


def test_a_constant_map_stays_finite() -> None:
    block = small_block(4)
    maps = torch.ones(1, 2, 16, 16, dtype=torch.float64, requires_grad=True)
    block(maps).square().sum().backward()
    assert all(
        parameter.grad.isfinite().all()
        for parameter in block.parameters()
        if parameter.grad is not None
    )
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
