"""Why a network predicts what it does for one image: Grad-CAM, integrated gradients, TCGN's own patch graph.

The first two are Captum's (Kokhlikyan et al. 2020) and work on any image model; the graph is what TCGN itself has
learnt to link, read by a hook as it passes. Nothing here changes a model.

References
----------
Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017.
Sundararajan, Taly, Yan, Axiomatic Attribution for Deep Networks, ICML 2017 (integrated gradients).
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91 (2024) 103040.
Kokhlikyan et al., Captum: A unified and generic model interpretability library for PyTorch, arXiv:2009.07896.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.layers.graph_block import GraphBlock
from tcgn_mil.layers.patch_graph import EDGES_PER_NODE, select_edges
from tcgn_mil.models.network_input import IMAGENET_MEAN, IMAGENET_STD

INTEGRATION_STEPS = 64
_STEPS_A_BATCH = 16


class Attribution(NamedTuple):
    """Integrated gradients of G outputs for B images.

    Attributes
    ----------
    relevance
        (B, G, H, W), summed over colours, signed: what a pixel adds to the output, in the output's unit.
    change
        (B, G), output at the image minus output at the baseline, which the relevance should sum to.
    delta
        (B, G), sum of the relevance minus `change`: the error of the integration.
    """

    relevance: Tensor
    change: Tensor
    delta: Tensor


class LearnedGraph(NamedTuple):
    """The patch graph that one graph block selected for B images.

    Attributes
    ----------
    edges
        (B, K, 2) int64, source and target; node ``i`` is the patch in row ``i // columns``, column ``i % columns``.
        An edge may be a loop. The source attends: its attention row holds the edge's weight.
    weight
        (B, K), attention averaged over heads; a source's weights over all targets sum to one.
    grid
        Rows and columns of patches, N in all.
    """

    edges: Tensor
    weight: Tensor
    grid: tuple[int, int]

    @property
    def out_degree(self) -> Tensor:
        """(B, N) int64, edges that leave each node, loops included; sums to K."""
        return self._degree(0)

    @property
    def in_degree(self) -> Tensor:
        """(B, N) int64, edges that reach each node, loops included; sums to K."""
        return self._degree(1)

    def _degree(self, end: int) -> Tensor:
        ends = self.edges[:, :, end]
        counts = ends.new_zeros(len(ends), self.grid[0] * self.grid[1])
        return counts.scatter_add_(1, ends, torch.ones_like(ends))

    def centres(self, size_px: float) -> Tensor:
        """(N, 2) float32 x, y of the nodes' centres in an image of side `size_px`, pixel edges at whole numbers."""
        rows, columns = self.grid
        y = (torch.arange(rows, dtype=torch.float32) + 0.5) * (size_px / rows)
        x = (torch.arange(columns, dtype=torch.float32) + 0.5) * (size_px / columns)
        return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)


def grad_cam(
    model: nn.Module, images: Tensor, targets: Sequence[int], *, signed: bool = False
) -> Tensor:
    """Grad-CAM at the last map, for each output asked for.

    Parameters
    ----------
    model
        In eval mode, with `forward_features`, which gives the last map (B, C, h, w), and `forward_head`, which takes
        it to the outputs: TCGN, and timm's convolutional models.
    images
        (B, 3, H, W) float, normalised for the model.
    targets
        Columns of the output, the genes, G of them.
    signed
        Keep what speaks against the output, too; Grad-CAM proper is the positive part.

    Returns
    -------
    (B, G, h, w): the last map's channels weighted by their mean gradient, positive part. All zero where no position
    speaks for more of the output. Where the head pools by the mean, the sum over positions is, to first order, what
    they add to the output, in its unit: maps of two genes can be compared.

    Raises
    ------
    InputError
        If a pixel is not finite, or the model has no last map (the tokens of a vision transformer are none).
    """
    from captum.attr import LayerGradCam

    _check(model, images)
    with torch.no_grad():
        maps = last_map(model, images)
    method = LayerGradCam(
        head := _Head(model), head.last_map
    )  # the features once, the head for each gene
    found = [
        method.attribute(maps, target=target, relu_attributions=not signed).detach()
        for target in targets
    ]
    return torch.cat(found, dim=1)


def last_map(model: nn.Module, images: Tensor) -> Tensor:
    """The model's last map (B, C, h, w).

    Raises
    ------
    InputError
        If it has none.
    """
    name = type(model).__name__
    fix = "use TCGN or a convolutional model of timm; integrated gradients need no map"
    if not (hasattr(model, "forward_features") and hasattr(model, "forward_head")):
        raise InputError(
            f"{name} has no forward_features and forward_head, so no last map", fix=fix
        )
    maps = model.forward_features(images)  # type: ignore[operator]
    if (
        not isinstance(maps, Tensor)
        or maps.ndim != 4
        or maps.shape[1] != getattr(model, "num_features", None)
    ):
        shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(
            f"forward_features of {name} gives {shape}, not a map (B, num_features, h, w)", fix=fix
        )
    return maps


class _Head(nn.Module):
    """The part of a model behind its last map, with a place at which Captum can read that map."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.last_map = nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        return self.model.forward_head(self.last_map(maps))  # type: ignore[operator]


def upsample(maps: Tensor, size_px: int) -> Tensor:
    """(B, G, h, w) to (B, G, size_px, size_px), bilinear, to lay over the image."""
    return nn.functional.interpolate(maps, size=(size_px, size_px), mode="bilinear")


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    targets: Sequence[int],
    *,
    baseline: Tensor | None = None,
    steps: int = INTEGRATION_STEPS,
) -> Attribution:
    """Integrated gradients along the straight line from a baseline image to each image (Gauss-Legendre).

    Parameters
    ----------
    model, images, targets
        As for :func:`grad_cam`; any image model will do.
    baseline
        (3, H, W) or (B, 3, H, W); by default :func:`white_glass`. A pixel like the baseline gets nothing, so
        it has to be what is nothing in the picture: in brightfield microscopy that is white, no stain; black
        would be the strongest stain of all, and give all relevance to pale stroma and glass.
    steps
        Points on the line.

    Notes
    -----
    TCGN selects edges anew for every image, so along the line its output jumps, and gradients do not see jumps. The
    graph of the image itself is held along the whole line: the output at the image is unchanged, the output at the
    baseline is that with the image's graph, and relevance sums to the difference.
    """
    from captum.attr import IntegratedGradients

    _check(model, images)
    start = white_glass(images[0]) if baseline is None else baseline
    starts = start.expand_as(images).contiguous()
    method = IntegratedGradients(model)
    rows = []
    for image, origin in zip(images.split(1), starts.split(1), strict=True):
        with held_graph(model, image):
            found = [
                method.attribute(
                    image,
                    origin,
                    target=target,
                    n_steps=steps,
                    internal_batch_size=_STEPS_A_BATCH,
                    return_convergence_delta=True,
                )
                for target in targets
            ]
        relevance = torch.cat([values.detach().sum(dim=1) for values, _ in found])
        rows.append((relevance, torch.cat([delta.detach() for _, delta in found])))
    relevance, delta = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Attribution(relevance, relevance.sum(dim=(2, 3)) - delta, delta)


def white_glass(
    like: Tensor, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """(3, H, W) normalised white, of the size, dtype and device of `like` (..., 3, H, W)."""
    white = [(1 - m) / s for m, s in zip(mean, std, strict=True)]
    return like.new_tensor(white)[:, None, None].expand(like.shape[-3:])


def learned_graphs(model: nn.Module, images: Tensor) -> list[LearnedGraph]:
    """The patch graph of each of TCGN's graph blocks.

    Parameters
    ----------
    model
        In eval mode, with graph blocks.
    images
        (B, 3, 224, 224), normalised.

    Raises
    ------
    InputError
        If the model has no graph block, or a pixel is not finite.
    """
    _check(model, images)
    blocks = graph_blocks(model)
    if not blocks:
        raise InputError(
            f"{type(model).__name__} has no patch graph",
            fix="use a TCGN encoder, or Grad-CAM and integrated gradients",
        )
    attention: dict[int, Tensor] = {}
    with ExitStack() as hooks, torch.no_grad():
        for index, block in enumerate(blocks):

            def keep(
                _module: nn.Module, _inputs: Any, output: tuple[Tensor, Tensor], index: int = index
            ) -> None:
                attention[index] = output[0].mean(dim=1)

            hooks.callback(block.attention.register_forward_hook(keep).remove)
        model(images)
    graphs = []
    for index, block in enumerate(blocks):
        edges = select_edges(attention[index], EDGES_PER_NODE * block.positions)
        ends = torch.stack([edges // block.positions, edges % block.positions], dim=2)
        graphs.append(LearnedGraph(ends, attention[index].flatten(1).gather(1, edges), block.grid))
    return graphs


def graph_blocks(model: nn.Module) -> list[GraphBlock]:
    """TCGN's graph blocks within a model, in order; none for other models."""
    return [module for module in model.modules() if isinstance(module, GraphBlock)]


@contextmanager
def held_graph(model: nn.Module, image: Tensor) -> Iterator[None]:
    """Within this context every image is seen with the patch graphs of `image` (1, 3, H, W)."""
    blocks = graph_blocks(model)
    with ExitStack() as hooks:
        for block, graph in zip(
            blocks, learned_graphs(model, image) if blocks else (), strict=True
        ):
            edges = graph.edges[:, :, 0] * block.positions + graph.edges[:, :, 1]

            def hold(
                _block: nn.Module, inputs: tuple[Tensor, ...], edges: Tensor = edges
            ) -> tuple[Tensor, Tensor]:
                return inputs[0], edges.expand(len(inputs[0]), -1)

            hooks.callback(block.register_forward_pre_hook(hold).remove)
        yield


def _check(model: nn.Module, images: Tensor) -> None:
    if model.training:
        raise ValueError(
            "the model is in training mode, so that its output is random; call model.eval()"
        )
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            f"images are {tuple(images.shape)} {images.dtype}; give floating point (B, 3, H, W)"
        )
    bad = (~torch.isfinite(images)).flatten(1).any(dim=1).nonzero().flatten().tolist()
    if bad:
        raise InputError(
            f"image {bad[0]} of the batch holds pixels that are not finite (NaN or infinity)",
            fix="check the picture, and leave it out",
        )
