"""All explanations of one picture, and the tables of their numbers."""

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


class Explanation(NamedTuple):
    """What is found for one picture; all in the model's unit, genes in the model's order.

    Attributes
    ----------
    predicted
        (G,).
    cam, against
        (G, h, w), Grad-CAM at the last map, and (G,) the sum of what it leaves out, which speaks against the gene.
    relevance
        (G, H, W) integrated gradients, whose sum is `change` plus `delta` (G,).
    graphs
        Of the picture alone, B = 1; none for a model without.
    """

    predicted: NDArray[np.float32]
    cam: NDArray[np.float32]
    against: NDArray[np.float32]
    relevance: NDArray[np.float32]
    change: NDArray[np.float32]
    delta: NDArray[np.float32]
    graphs: list[interpret.LearnedGraph]


def explain_image(model: GeneModel, pixels: NDArray[np.uint8], *, steps: int) -> Explanation:
    """All explanations of one picture (P, P, 3), for all genes of `model`."""
    network = model.network
    image = model.images(pixels[None])
    with torch.inference_mode():
        predicted = model.model(image)[0].numpy()
    white = interpret.white_glass(image, mean=network.input_spec.mean, std=network.input_spec.std)
    targets = range(len(model.genes))
    cam = interpret.grad_cam(model.model, image, targets, signed=True)[0].numpy()
    found = interpret.integrated_gradients(model.model, image, targets, baseline=white, steps=steps)
    std = model.std[:, None, None]
    return Explanation(
        predicted=predicted * model.std + model.mean,
        cam=cam.clip(min=0) * std,
        against=cam.clip(max=0).sum(axis=(1, 2)) * model.std,
        relevance=found.relevance[0].numpy() * std,
        change=found.change[0].numpy() * model.std,
        delta=found.delta[0].numpy() * model.std,
        graphs=interpret.learned_graphs(model.model, image)
        if interpret.graph_blocks(model.model)
        else [],
    )


def explanation_tables(
    picture: ExplainedImage, model: GeneModel, found: Explanation
) -> dict[str, pd.DataFrame]:
    """Name -> table: explanations (one row a gene), nodes, and for a model with graphs degrees and graph."""
    overview = pd.DataFrame(
        [_numbers(picture, model, found, index) for index in range(len(model.genes))]
    )
    made = {"explanations": overview, "nodes": _node_table(picture.name, model.genes, found)}
    if found.graphs:
        made["degrees"] = _degree_table(picture.name, found.graphs)
        made["graph"] = _edge_table(picture.name, found.graphs)
    return made


def _numbers(
    picture: ExplainedImage, model: GeneModel, found: Explanation, index: int
) -> dict[str, Any]:
    gene = model.genes[index]
    return {
        "picture": picture.name,
        "where": picture.where,
        "relation": picture.relation,
        "gene": gene,
        "unit": model.unit,
        "predicted": found.predicted[index],
        "measured": picture.measured.get(gene, np.nan),
        "cam_sum": found.cam[index].sum(),
        "cam_against": found.against[index],
        "ig_change": found.change[index],
        "ig_delta": found.delta[index],
    }


def block_sums(values: NDArray[np.floating], grid: tuple[int, int]) -> NDArray[np.floating]:
    """(..., H, W) to (..., rows, columns): sums over the cells of a grid, a pixel's value spread over its area."""
    rows, columns = (
        _overlap(cells, size) for cells, size in zip(grid, values.shape[-2:], strict=True)
    )
    return rows @ values @ columns.T


def _overlap(cells: int, size: int) -> NDArray[np.float64]:
    """(cells, size): the part of each of `size` equal pixels in each of `cells` equal cells of the same length."""
    cell, pixel = (np.linspace(0, 1, count + 1) for count in (cells, size))
    shared = np.minimum(cell[1:, None], pixel[None, 1:]) - np.maximum(
        cell[:-1, None], pixel[None, :-1]
    )
    return np.clip(shared, 0, None) * size


def _grid(found: Explanation) -> tuple[int, int]:
    """Of the learned graph; without one, of the last map."""
    return found.graphs[0].grid if found.graphs else (found.cam.shape[1], found.cam.shape[2])


def _cells(grid: tuple[int, int]) -> dict[str, NDArray[np.int64]]:
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    return {"row": rows, "column": columns}


def _node_table(picture: str, genes: Sequence[str], found: Explanation) -> pd.DataFrame:
    """CAM mass (sums to one), CAM and relevance of each node for each gene."""
    grid = _grid(found)
    cam, relevance = (
        block_sums(v, grid).reshape(len(genes), -1) for v in (found.cam, found.relevance)
    )
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
        ends = {}
        for end, nodes in zip(("source", "target"), graph.edges[0].numpy().T, strict=True):
            ends[f"{end}_row"], ends[f"{end}_column"] = np.divmod(nodes, graph.grid[1])
        tables.append(
            pd.DataFrame(
                {"picture": picture, "block": block, **ends, "weight": graph.weight[0].numpy()}
            )
        )
    return pd.concat(tables)
