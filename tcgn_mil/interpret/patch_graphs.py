"""Read the patch graphs that TCGN selects for an image, or hold them fixed.

Both use hooks on the graph blocks, so the model itself does not change.

References
----------
Xiao et al., Transformer with convolution and graph-node co-embedding, Medical Image Analysis 91
(2024) 103040.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tcgn_mil.errors import InputError
from tcgn_mil.interpret.checks import check_model_and_images
from tcgn_mil.layers.graph_block import GraphBlock
from tcgn_mil.layers.patch_graph import EDGES_PER_NODE, select_edges


class LearnedGraph(NamedTuple):
    """Patch graph that one graph block selected for B images.

    Attributes
    ----------
    edges
        (B, K, 2) int64, source and target of each edge. Node ``i`` is the patch in row
        ``i // columns`` and column ``i % columns``. An edge may be a loop. The source attends to
        the target.
    weight
        (B, K) attention averaged over heads. The weights of a source over all targets, edges or
        not, sum to one.
    grid
        Rows and columns of patches, N in all.
    """

    edges: Tensor
    weight: Tensor
    grid: tuple[int, int]

    @property
    def out_degree(self) -> Tensor:
        """(B, N) int64, number of edges that leave each node, loops included; sums to K."""
        return self._degree(0)

    @property
    def in_degree(self) -> Tensor:
        """(B, N) int64, number of edges that reach each node, loops included; sums to K."""
        return self._degree(1)

    def _degree(self, end: int) -> Tensor:
        ends = self.edges[:, :, end]
        counts = ends.new_zeros(len(ends), self.grid[0] * self.grid[1])
        return counts.scatter_add_(1, ends, torch.ones_like(ends))

    def centres(self, size_px: float) -> Tensor:
        """Return x and y of the nodes' centres, (N, 2) float32, in an image of side `size_px`.

        Pixel edges are at whole numbers.
        """
        rows, columns = self.grid
        y = (torch.arange(rows, dtype=torch.float32) + 0.5) * (size_px / rows)
        x = (torch.arange(columns, dtype=torch.float32) + 0.5) * (size_px / columns)
        return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)


def learned_graphs(model: nn.Module, images: Tensor) -> list[LearnedGraph]:
    """Return the patch graph of each of TCGN's graph blocks.

    Parameters
    ----------
    model
        Model in evaluation mode, with graph blocks.
    images
        (B, 3, 224, 224) float, normalised.

    Raises
    ------
    InputError
        If the model has no graph block, or a pixel is not finite.

    Examples
    --------
    >>> import torch
    >>> from tcgn_mil.models import create_model
    >>> model = create_model("tcgn_tiny", num_classes=3).eval()
    >>> first, second = learned_graphs(model, torch.randn(1, 3, 224, 224))
    >>> first.grid, first.edges.shape
    ((14, 14), torch.Size([1, 784, 2]))
    """
    check_model_and_images(model, images)
    blocks = graph_blocks(model)
    if not blocks:
        raise InputError(
            f"{type(model).__name__} has no patch graph",
            fix="use a TCGN encoder, or Grad-CAM and integrated gradients",
        )
    attention: dict[int, Tensor] = {}  # (B, N, N) by block
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
    """Return TCGN's graph blocks within a model, in order; an empty list for other models."""
    return [module for module in model.modules() if isinstance(module, GraphBlock)]


@contextmanager
def held_graph(model: nn.Module, image: Tensor) -> Iterator[None]:
    """Make the model use the patch graphs of one image for every image in this context.

    Parameters
    ----------
    model
        Any model; without graph blocks this does nothing.
    image
        (1, 3, H, W) float, normalised.
    """
    blocks = graph_blocks(model)
    with ExitStack() as hooks:
        for block, graph in zip(
            blocks, learned_graphs(model, image) if blocks else (), strict=True
        ):
            edges = graph.edges[:, :, 0] * block.positions + graph.edges[:, :, 1]  # (1, K)

            def hold(
                _block: nn.Module, inputs: tuple[Tensor, ...], edges: Tensor = edges
            ) -> tuple[Tensor, Tensor]:
                return inputs[0], edges.expand(len(inputs[0]), -1)

            hooks.callback(block.register_forward_pre_hook(hold).remove)
        yield
