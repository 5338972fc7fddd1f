"""Compute all explanations of one image, and tabulate their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tcgn_mil import interpret
from tcgn_mil.experiments.explain.gene_models import GeneModel
from tcgn_mil.experiments.explain.images import ExplainedImage

# Cells along a side, over which relevance is summed for a model with neither graphs nor a map.
_CELLS = 14


class Explanation(NamedTuple):
    """Explanations of one image for G genes, in the unit and the order of the model's genes.

    Attributes
    ----------
    predicted
        (G,) predictions.
    cam
        (G, h, w) Grad-CAM at the last map: what each cell adds to the prediction, not negative.
        None for a vision transformer, which has no such map.
    against
        (G,) sum of the negative part of Grad-CAM, which `cam` leaves out. It speaks against the
        gene. NaN without Grad-CAM.
    relevance
        (G, H, W) integrated gradients. Their sum is `change` plus `delta`.
    change
        (G,) prediction for the image less the prediction for white glass.
    delta
        (G,) error of the numerical integration.
    graphs
        Graphs that the network learned for this image; empty for a network without graphs.
    """

    predicted: NDArray[np.float32]
    cam: NDArray[np.float32] | None
    against: NDArray[np.float32]
    relevance: NDArray[np.float32]
    change: NDArray[np.float32]
    delta: NDArray[np.float32]
    graphs: list[interpret.LearnedGraph]


def explain_image(model: GeneModel, pixels: NDArray[np.uint8], *, steps: int) -> Explanation:
    """Compute all explanations of one image.

    Parameters
    ----------
    model
        Model whose genes are explained.
    pixels
        (P, P, 3) uint8 image.
    steps
        Steps of the integrated gradients.
    """
    network = model.network
    image = model.images(pixels[None])
    with torch.inference_mode():
        predicted = model.model(image)[0].numpy()
    # White glass is the baseline of the integration: an image without tissue.
    white = interpret.white_glass(image, mean=network.input_spec.mean, std=network.input_spec.std)
    targets = range(len(model.genes))
    integrated = interpret.integrated_gradients(
        model.model, image, targets, baseline=white, steps=steps
    )
    # The network predicts standardised values. Parts of a prediction scale with the gene's standard
    # deviation; only the prediction itself also needs the mean.
    std = model.std[:, None, None]
    cam, against = None, np.full(len(model.genes), np.nan, np.float32)
    if interpret.has_last_map(model.model, image):
        signed = interpret.grad_cam(model.model, image, targets, signed=True)[0].numpy()
        cam, against = signed.clip(min=0) * std, signed.clip(max=0).sum(axis=(1, 2)) * model.std
    return Explanation(
        predicted=predicted * model.std + model.mean,
        cam=cam,
        against=against,
        relevance=integrated.relevance[0].numpy() * std,
        change=integrated.change[0].numpy() * model.std,
        delta=integrated.delta[0].numpy() * model.std,
        graphs=interpret.learned_graphs(model.model, image)
        if interpret.graph_blocks(model.model)
        else [],
    )


def explanation_tables(
    picture: ExplainedImage, model: GeneModel, explanation: Explanation
) -> dict[str, pd.DataFrame]:
    """Tabulate the explanations of one image.

    Returns
    -------
    dict
        Tables by name: ``explanations`` (one row for each gene), ``nodes``, and for a model with
        graphs ``degrees`` and ``graph``.
    """
    overview = pd.DataFrame(
        [_numbers(picture, model, explanation, index) for index in range(len(model.genes))]
    )
    made = {"explanations": overview, "nodes": _node_table(picture.name, model.genes, explanation)}
    if explanation.graphs:
        made["degrees"] = _degree_table(picture.name, explanation.graphs)
        made["graph"] = _edge_table(picture.name, explanation.graphs)
    return made


def _numbers(
    picture: ExplainedImage, model: GeneModel, explanation: Explanation, index: int
) -> dict[str, Any]:
    """Return the row of one gene."""
    gene = model.genes[index]
    return {
        "picture": picture.name,
        "where": picture.where,
        "relation": picture.relation,
        "gene": gene,
        "unit": model.unit,
        "predicted": explanation.predicted[index],
        "measured": picture.measured.get(gene, np.nan),
        "cam_sum": np.nan if explanation.cam is None else explanation.cam[index].sum(),
        "cam_against": explanation.against[index],
        "ig_change": explanation.change[index],
        "ig_delta": explanation.delta[index],
    }


def block_sums(values: NDArray[np.floating], grid: tuple[int, int]) -> NDArray[np.floating]:
    """Sum values over the cells of a grid.

    A pixel that lies across a border of cells is divided between them by area, so the total is
    kept.

    Parameters
    ----------
    values
        (..., H, W) values.
    grid
        Numbers of rows and columns of cells.

    Returns
    -------
    ndarray
        (..., rows, columns) sums.

    Examples
    --------
    >>> block_sums(np.ones((4, 6)), (2, 2))
    array([[6., 6.],
           [6., 6.]])
    """
    # The sums are separable, so two small matrices do the work of a loop over cells.
    rows, columns = (
        _overlap(cells, size) for cells, size in zip(grid, values.shape[-2:], strict=True)
    )
    return rows @ values @ columns.T


def _overlap(cells: int, size: int) -> NDArray[np.float64]:
    """Return the share of each of `size` pixels that lies in each of `cells` cells, (cells, size).

    Both divide the same length into equal parts.
    """
    cell, pixel = (np.linspace(0, 1, count + 1) for count in (cells, size))
    # Length that pixel and cell share: the nearer of the two ends less the farther of the two
    # starts. It is negative, and set to 0, where they do not meet.
    shared = np.minimum(cell[1:, None], pixel[None, 1:]) - np.maximum(
        cell[:-1, None], pixel[None, :-1]
    )
    return np.clip(shared, 0, None) * size


def _grid(explanation: Explanation) -> tuple[int, int]:
    """Return the grid of the learned graphs; without graphs, that of the last map, if any."""
    if explanation.graphs:
        return explanation.graphs[0].grid
    if explanation.cam is None:
        return _CELLS, _CELLS
    return explanation.cam.shape[1], explanation.cam.shape[2]


def _cells(grid: tuple[int, int]) -> dict[str, NDArray[np.int64]]:
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    return {"row": rows, "column": columns}


def _node_table(picture: str, genes: Sequence[str], explanation: Explanation) -> pd.DataFrame:
    """Tabulate Grad-CAM, its share of the gene's total, and relevance for each node and gene."""
    grid = _grid(explanation)
    # A gene that nothing speaks for has a total of 0, and its shares are NaN.
    relevance = block_sums(explanation.relevance, grid).reshape(len(genes), -1)
    cam = np.full_like(relevance, np.nan)
    if explanation.cam is not None:
        cam = block_sums(explanation.cam, grid).reshape(len(genes), -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mass = cam / cam.sum(axis=1, keepdims=True)
    tables = [
        {
            "picture": picture,
            "gene": gene,
            **_cells(grid),
            "cam": cam[i],
            "cam_mass": mass[i],
            "relevance": relevance[i],
        }
        for i, gene in enumerate(genes)
    ]
    return pd.concat([pd.DataFrame(table) for table in tables])


def _degree_table(picture: str, graphs: Sequence[interpret.LearnedGraph]) -> pd.DataFrame:
    tables = [
        {
            "picture": picture,
            "block": block,
            **_cells(graph.grid),
            "out_degree": graph.out_degree[0].numpy(),
            "in_degree": graph.in_degree[0].numpy(),
        }
        for block, graph in enumerate(graphs)
    ]
    return pd.concat([pd.DataFrame(table) for table in tables])


def _edge_table(picture: str, graphs: Sequence[interpret.LearnedGraph]) -> pd.DataFrame:
    tables = []
    for block, graph in enumerate(graphs):
        # A node is numbered row by row; the table gives its row and column.
        ends = {}
        for end, nodes in zip(("source", "target"), graph.edges[0].numpy().T, strict=True):
            ends[f"{end}_row"], ends[f"{end}_column"] = np.divmod(nodes, graph.grid[1])
        tables.append(
            pd.DataFrame(
                {"picture": picture, "block": block, **ends, "weight": graph.weight[0].numpy()}
            )
        )
    return pd.concat(tables)
