"""Explanations agree with models whose reasons are known, and graphs with those of TCGN."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from tcgn_mil import interpret
from tcgn_mil.errors import InputError
from tcgn_mil.interpret import patch_graphs
from tcgn_mil.layers import graph_block
from tcgn_mil.models import TCGN, create_model
from tcgn_mil.models.network_input import to_network_input

PX = 32


class Quadrants(nn.Module):
    """Gene k reads channel k of an 8 x 8 map: darkness in the top left quadrant, and elsewhere."""

    num_features = 2

    def __init__(self) -> None:
        super().__init__()
        inside = torch.zeros(8, 8)
        inside[:4, :4] = 1
        self.masks = torch.stack([inside, 1 - inside])

    def forward_features(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(-images.mean(1, keepdim=True), PX // 8) * self.masks

    def forward_head(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


@pytest.fixture(scope="module")
def tcgn() -> TCGN:
    """Return a tcgn_tiny with three genes and random weights, whose norms have seen images."""
    torch.manual_seed(0)
    model = create_model("tcgn_tiny", num_classes=3)
    with torch.no_grad():
        model.train()(textured(8, seed=5))
    return model.eval()


def textured(count: int, *, seed: int = 0, side: int = 224) -> Tensor:
    """Return images with structure at the scale of a graph's patches."""
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.interpolate(
        torch.randn(count, 3, side // 8, side // 8, generator=generator), scale_factor=8.0
    )


def test_grad_cam_lies_where_the_gene_is_read() -> None:
    images = -1 - torch.rand(2, 3, PX, PX)  # dark everywhere
    cam = interpret.grad_cam(Quadrants().eval(), images, [0, 1])
    assert cam.shape == (2, 2, 8, 8)
    share = cam[:, :, :4, :4].sum(dim=(2, 3)) / cam.sum(dim=(2, 3))
    torch.testing.assert_close(share, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


def test_grad_cam_keeps_what_speaks_for_the_gene_and_drops_what_speaks_against() -> None:
    bright = torch.ones(1, 3, PX, PX)
    assert interpret.grad_cam(Quadrants().eval(), bright, [0]).count_nonzero() == 0
    assert interpret.grad_cam(Quadrants().eval(), bright, [0], signed=True)[0, 0, :4, :4].max() < 0


def test_grad_cam_sums_to_the_output_of_a_linear_head() -> None:
    model, images = Quadrants().eval(), -torch.rand(3, 3, PX, PX)
    torch.testing.assert_close(
        interpret.grad_cam(model, images, [0, 1]).sum(dim=(2, 3)), model(images)
    )


def test_grad_cam_of_tcgn_is_captums_on_its_final_activation(tcgn: TCGN) -> None:
    from captum.attr import LayerGradCam

    images = textured(2)
    found = interpret.grad_cam(tcgn, images, [2, 0])
    assert found.shape == (2, 2, 7, 7)
    assert found.count_nonzero()
    for column, gene in enumerate((2, 0)):
        expected = LayerGradCam(tcgn, tcgn.final_act).attribute(
            images, target=gene, relu_attributions=True
        )
        torch.testing.assert_close(found[:, column : column + 1], expected)


def test_a_cam_is_of_its_own_image(tcgn: TCGN) -> None:
    images = textured(3)
    torch.testing.assert_close(
        interpret.grad_cam(tcgn, images, [1])[1:2],
        interpret.grad_cam(tcgn, images[1:2], [1]),
        rtol=1e-3,
        atol=1e-6,
    )


def test_upsampling_keeps_place_and_height() -> None:
    maps = torch.zeros(1, 1, 7, 7)
    maps[0, 0, 5, 1] = 3
    large = interpret.upsample(maps, 224)
    assert large.shape == (1, 1, 224, 224)
    row, column = divmod(int(large.argmax()), 224)
    assert (row // 32, column // 32) == (5, 1)
    assert large.max() == pytest.approx(3, rel=0.05)


def test_integrated_gradients_of_a_linear_model_are_weight_times_difference() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 2)).eval()
    images, baseline = torch.randn(2, 3, 6, 6), torch.randn(3, 6, 6)
    found = interpret.integrated_gradients(model, images, [1], baseline=baseline, steps=4)
    expected = (model[1].weight[1].view(3, 6, 6) * (images - baseline)).sum(dim=1, keepdim=True)
    torch.testing.assert_close(found.relevance, expected, rtol=1e-4, atol=1e-5)


def test_relevance_sums_to_the_change_of_output_and_the_error_is_reported(tcgn: TCGN) -> None:
    image = textured(1)
    white = interpret.white_glass(image[0])
    with interpret.held_graph(tcgn, image), torch.no_grad():
        change = tcgn(image) - tcgn(white[None])
    coarse, fine = (
        interpret.integrated_gradients(tcgn, image, [0, 1, 2], steps=steps) for steps in (4, 96)
    )
    for found in (coarse, fine):
        assert found.relevance.shape == (1, 3, 224, 224)
        torch.testing.assert_close(found.change, change, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(
            found.relevance.sum(dim=(2, 3)), change + found.delta, rtol=1e-3, atol=1e-5
        )
    assert fine.delta.abs().max() < 0.02 * change.abs().max()
    assert fine.delta.abs().sum() < coarse.delta.abs().sum()


def test_without_holding_the_graph_the_relevance_would_not_add_up(
    tcgn: TCGN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edges are selected anew along the line, and gradients do not see the jumps."""
    image = textured(1)
    held = interpret.integrated_gradients(tcgn, image, [0, 1, 2], steps=96)
    monkeypatch.setattr(patch_graphs, "graph_blocks", lambda _model: [])
    free = interpret.integrated_gradients(tcgn, image, [0, 1, 2], steps=96)
    assert held.delta.abs().sum() < 0.5 * free.delta.abs().sum()


def test_holding_a_graph_changes_nothing_at_its_own_image_and_leaves_no_trace(tcgn: TCGN) -> None:
    image, other = textured(1), textured(1, seed=9)
    with torch.no_grad():
        before, other_before = tcgn(image), tcgn(other)
        with interpret.held_graph(tcgn, image):
            torch.testing.assert_close(tcgn(image), before)
            assert not torch.equal(tcgn(other), other_before)
        assert torch.equal(tcgn(other), other_before)


def test_white_glass_is_what_a_white_patch_becomes() -> None:
    patch = torch.full((1, 56, 56, 3), 255, dtype=torch.uint8)
    image = to_network_input(patch)
    torch.testing.assert_close(interpret.white_glass(image), image[0])


def test_relevance_of_white_pixels_is_zero() -> None:
    image = interpret.white_glass(torch.empty(3, PX, PX)).clone()[None]
    image[..., 8:, :] = -1
    found = interpret.integrated_gradients(Quadrants().eval(), image, [0], steps=4)
    assert found.relevance[..., :8, :].count_nonzero() == 0
    assert found.relevance[..., 8:16, :16].min() > 0


def test_graphs_hold_the_edges_that_the_model_used(
    tcgn: TCGN, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Tensor] = []
    build = graph_block.build_graph
    monkeypatch.setattr(
        graph_block,
        "build_graph",
        lambda edges, *rest: (used.append(edges), build(edges, *rest))[1],
    )
    graphs = interpret.learned_graphs(tcgn, textured(2))
    assert len(graphs) == len(used) == 2
    for graph, edges in zip(graphs, used, strict=True):
        assert graph.edges.shape == (2, 784, 2)
        assert graph.grid == (14, 14)
        assert torch.equal(graph.edges[..., 0] * 196 + graph.edges[..., 1], edges)


def test_weights_are_attention_and_the_strongest_there_is(tcgn: TCGN) -> None:
    image, kept = textured(1), []
    hook = tcgn.graph_blocks[1].attention.register_forward_hook(
        lambda _m, _i, output: kept.append(output[0].mean(1))
    )
    graph = interpret.learned_graphs(tcgn, image)[1]
    hook.remove()
    attention = kept[0][0]
    torch.testing.assert_close(
        graph.weight[0], attention[graph.edges[0, :, 0], graph.edges[0, :, 1]]
    )
    torch.testing.assert_close(
        graph.weight[0].sort().values, attention.flatten().sort().values[-784:]
    )


def test_degrees_count_ends(tcgn: TCGN) -> None:
    graph = interpret.learned_graphs(tcgn, textured(2))[0]
    for degree, end in ((graph.out_degree, 0), (graph.in_degree, 1)):
        assert degree.sum(dim=1).tolist() == [784, 784]
        assert degree[1, 17] == (graph.edges[1, :, end] == 17).sum()


def test_centres_run_along_rows() -> None:
    graph = interpret.LearnedGraph(
        torch.zeros(1, 0, 2, dtype=torch.long), torch.zeros(1, 0), (14, 14)
    )
    centres = graph.centres(112)
    assert centres.shape == (196, 2)
    assert centres[0].tolist() == [4, 4]
    assert centres[13].tolist() == [108, 4]  # x, y
    assert centres[14].tolist() == [4, 12]


def test_explaining_leaves_the_model_as_it_was(tcgn: TCGN) -> None:
    before = copy.deepcopy(tcgn.state_dict())
    image = textured(1)
    interpret.grad_cam(tcgn, image, [0])
    interpret.integrated_gradients(tcgn, image, [0], steps=2)
    interpret.learned_graphs(tcgn, image)
    assert all(torch.equal(before[name], tensor) for name, tensor in tcgn.state_dict().items())
    assert all(
        parameter.grad is None and parameter.requires_grad for parameter in tcgn.parameters()
    )
    assert not any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in tcgn.modules()
    )


def test_a_convolutional_timm_model_is_explained_but_has_no_graph() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=2).eval()
    image = textured(1, side=64)
    assert interpret.grad_cam(model, image, [1]).shape == (1, 1, 2, 2)
    assert interpret.integrated_gradients(model, image, [1], steps=2).relevance.shape == (
        1,
        1,
        64,
        64,
    )
    with pytest.raises(InputError, match=r"ResNet has no patch graph\. Fix: use a TCGN encoder"):
        interpret.learned_graphs(model, image)


def test_a_vision_transformer_has_no_last_map() -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=2, depth=1).eval()
    image = textured(1)
    with pytest.raises(
        InputError, match=r"gives \(1, 197, 192\), not a map .* integrated gradients need no map"
    ):
        interpret.grad_cam(model, image, [0])
    assert torch.isfinite(
        interpret.integrated_gradients(model, image, [0], steps=2).relevance
    ).all()


@pytest.mark.parametrize("explain", [interpret.grad_cam, interpret.integrated_gradients])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_not_finite_are_refused(explain, value: float) -> None:
    images = torch.zeros(3, 3, PX, PX)
    images[2, 0, 4, 4] = value
    with pytest.raises(InputError, match="image 2 of the batch holds pixels that are not finite"):
        explain(Quadrants().eval(), images, [0])


def test_a_model_in_training_mode_is_refused(tcgn: TCGN) -> None:
    with pytest.raises(ValueError, match=r"call model\.eval\(\)"):
        interpret.grad_cam(copy.deepcopy(tcgn).train(), textured(1), [0])
