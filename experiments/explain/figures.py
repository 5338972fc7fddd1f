"""Draw the figure of one explanation: image, Grad-CAM, integrated gradients and patch graphs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from tcgn_mil import plotting
from tcgn_mil.experiments.explain.attribution_tables import Explanation, block_sums
from tcgn_mil.experiments.explain.gene_models import GeneModel
from tcgn_mil.experiments.explain.images import ExplainedImage
from tcgn_mil.experiments.runs.predictability import UNKNOWN
from tcgn_mil.interpret import LearnedGraph, upsample

_DRAWN_EDGES = 60
# Integrated gradients of neighbouring pixels differ by noise that cancels over a few of them, so
# they are summed over a grid of 28 x 28 cells.
_RELEVANCE_CELLS = 28
_COLUMNS = 3
# Share of the largest value over all genes that the colours reach at least.
_MIN_COLOUR_SHARE = 0.25
_MIN_SD = 0.1  # in standard deviations of the gene; a map that adds less is drawn faint


@plotting.styled
def draw_explanation(
    picture: ExplainedImage,
    model: GeneModel,
    explanation: Explanation,
    index: int,
    path: str | Path,
) -> None:
    """Draw the explanation of one gene as PNG.

    The colour scale of a gene ends at its own largest value, but never below either of two limits.
    The first is a quarter of the largest value over all genes of the image. The second is small
    beside the gene's standard deviation: if all cells of Grad-CAM, or a tenth of the cells of
    integrated gradients, had this value, they would add a tenth of the standard deviation together.
    Without these limits, noise around a gene that the image hardly affects would be drawn in full
    colour.

    Parameters
    ----------
    picture
        The image.
    model
        Model whose genes are explained.
    explanation
        Explanations of the image.
    index
        Position of the gene among the model's genes.
    path
        File to write.

    Notes
    -----
    A model without Grad-CAM, such as a vision transformer, has no panel of it.
    """
    maps = 2 if explanation.cam is None else 3
    count = maps + len(explanation.graphs)
    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    side = plotting.TWO_COLUMNS / _COLUMNS
    figure, places = plotting.subplots(
        rows, columns, width=side * columns, height=(side + 0.8) * rows + 0.5, squeeze=False
    )
    # The layout counts no label of a colour bar, which would touch the title of the panel below.
    figure.set_layout_engine("constrained", h_pad=0.12)
    axes = list(places.flat)
    for axis in axes[count:]:
        axis.set_axis_off()
    axes = axes[:count]
    # Maps lie over a pale grey copy of the image, so that colours come from the maps only.
    grey = picture.pixels.mean(axis=2)
    for axis, shown in zip(axes, (picture.pixels, *[grey] * (count - 1)), strict=True):
        axis.imshow(shown, cmap="gray", vmin=-160, vmax=255, extent=(0, 1, 1, 0))
        axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
        axis.spines[:].set_visible(True)
    axes[0].set_title(f"picture\n{model.patch.um:.0f} µm wide")
    plotting.draw_scale_bar(axes[0], model.patch.um)
    if explanation.cam is not None:
        _draw_cam(axes[1], explanation, index, sd=float(model.std[index]))
    _draw_relevance(axes[maps - 1], explanation, index, sd=float(model.std[index]))
    for block, (axis, graph) in enumerate(zip(axes[maps:], explanation.graphs, strict=True)):
        _draw_graph(axis, graph, block)
    figure.suptitle(plotting.plain_text(title(picture, model, explanation, index)))
    plotting.save(figure, path)


def title(picture: ExplainedImage, model: GeneModel, explanation: Explanation, index: int) -> str:
    """Return the title of a figure: gene, how well it is predicted, place, and its values."""
    gene = model.genes[index]
    measured = picture.measured.get(gene)
    beside = "" if measured is None else f", measured {measured:.2f}"
    relation = f" ({picture.relation})" if picture.relation else ""
    return (
        f"{gene} ({model.predictability.get(gene, UNKNOWN).words}), {picture.where}{relation}\n"
        f"predicted {explanation.predicted[index]:.2f}{beside} [{model.unit}]"
    )


def _draw_cam(axis: Axes, explanation: Explanation, index: int, *, sd: float) -> None:
    """Draw Grad-CAM over the grey image, transparent where it is zero."""
    cam = explanation.cam
    assert cam is not None
    # The scale ends at the largest of three values; draw_explanation says why.
    top = max(
        float(cam[index].max()),
        _MIN_COLOUR_SHARE * float(cam.max()),
        _MIN_SD * sd / cam[index].size,
    )
    # A map of few cells is enlarged smoothly, so that borders of cells do not look like structures.
    smooth = upsample(torch.from_numpy(cam[None, index : index + 1]), 16 * cam.shape[1])[
        0, 0
    ].numpy()
    shown = axis.imshow(
        smooth,
        cmap="inferno",
        vmin=0,
        vmax=top,
        alpha=np.clip(1.6 * smooth / top, 0, 0.75),
        extent=(0, 1, 1, 0),
    )
    sums = f"sum {_signed(cam[index].sum())}, not shown {_signed(explanation.against[index])}"
    axis.set_title(f"Grad-CAM\n{sums}")
    _colour_bar(axis, shown, f"added by each of {cam[index].size} cells")


def _draw_relevance(axis: Axes, explanation: Explanation, index: int, *, sd: float) -> None:
    """Draw integrated gradients summed over small cells; red adds to the prediction."""
    cells = block_sums(explanation.relevance, (_RELEVANCE_CELLS, _RELEVANCE_CELLS))
    # The 99.5th percentile instead of the maximum, since single cells can be extreme.
    limits = np.percentile(np.abs(cells), 99.5, axis=(1, 2))
    least = _MIN_SD * sd / (0.1 * cells[index].size)
    limit = max(float(limits[index]), _MIN_COLOUR_SHARE * float(limits.max()), least)
    shown = axis.imshow(
        cells[index],
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        extent=(0, 1, 1, 0),
        interpolation="bilinear",
        alpha=np.clip(1.6 * np.abs(cells[index]) / limit, 0, 0.8),
    )
    change, error = _signed(explanation.change[index]), _signed(explanation.delta[index])
    axis.set_title(f"integrated gradients from white\nsum {change}, error {error}")
    _colour_bar(axis, shown, f"added by each of {_RELEVANCE_CELLS**2} cells")


def _signed(value: float) -> str:
    """Format a value with its sign and two significant digits, and without a minus sign at zero."""
    return f"{float(value) + 0.0:+.2g}".replace("-", "−")


def _draw_graph(axis: Axes, graph: LearnedGraph, block: int) -> None:
    """Draw the strongest edges between nodes; size and colour of a node count its edges."""
    centres = graph.centres(1).numpy()
    edges, weight = graph.edges[0].numpy(), graph.weight[0].numpy()
    loops = edges[:, 0] == edges[:, 1]
    # An edge from a node to itself says nothing about the neighbourhood and is not drawn. Its
    # weight is set to -1 here, which sorts it behind all other edges.
    strongest = np.argsort(-np.where(loops, -1, weight), kind="stable")[
        : min(_DRAWN_EDGES, int((~loops).sum()))
    ]
    relative = weight[strongest] / weight[strongest].max() if len(strongest) else weight[:0]
    axis.add_collection(
        LineCollection(
            list(centres[edges[strongest]]),
            linewidths=0.3 + 1.3 * relative,
            colors=plotting.COLOURS[0],
            alpha=0.55,
        )
    )
    degree = graph.in_degree[0].numpy()
    nodes = axis.scatter(
        centres[:, 0],
        centres[:, 1],
        c=degree,
        s=2 + 24 * degree / max(degree.max(), 1),
        cmap="YlOrRd",
        vmin=0,
        edgecolors="black",
        linewidths=0.2,
        zorder=3,
    )
    # A node that attends to all N nodes alike gives each edge the weight 1 / N, which is 1 x even.
    even = weight[strongest].sum() / max(len(strongest), 1) * len(degree)
    axis.set_title(
        f"graph of block {block}: {len(edges)} edges, {int(loops.sum())} loops\n"
        f"{len(strongest)} strongest others: {even:.2f} x even"
    )
    _colour_bar(axis, nodes, "edges that reach a node")


def _colour_bar(axis: Axes, shown: Any, label: str) -> None:
    """Draw the colours of `shown` below an axis, without transparency."""
    drawn = axis.figure.colorbar(
        shown, ax=axis, orientation="horizontal", pad=0.03, aspect=28, shrink=0.95
    )
    drawn.set_label(label, fontsize=7)
    drawn.ax.locator_params(nbins=4)
    drawn.ax.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    drawn.ax.xaxis.get_offset_text().set_fontsize(6)
    if drawn.solids is not None:
        drawn.solids.set_alpha(1)
