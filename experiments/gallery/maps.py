"""Examples of the figures that show tissue: maps of slides and sections, and explanations."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import anndata
import numpy as np
import pandas as pd
import torch

from tcgn_mil import plotting
from tcgn_mil.experiments.demo.planted_truth import MappedTiles
from tcgn_mil.experiments.demo.synthetic.config import REGIONS
from tcgn_mil.experiments.demo.truth_figure import Comparison, draw_comparisons
from tcgn_mil.experiments.explain.attribution_tables import Explanation
from tcgn_mil.experiments.explain.figures import draw_explanation
from tcgn_mil.experiments.explain.gene_models import GeneModel
from tcgn_mil.experiments.explain.images import ExplainedImage
from tcgn_mil.experiments.gallery import made_tissue
from tcgn_mil.experiments.gallery.entry import Entry
from tcgn_mil.experiments.runs.predictability import Predictability
from tcgn_mil.experiments.runs.slide_map_figure import MapPanel, MappedSlide, slide_maps
from tcgn_mil.experiments.runs.spot_map_figure import MappedSection, spot_maps
from tcgn_mil.inference.tile_encoder import TileEncoder
from tcgn_mil.interpret import LearnedGraph
from tcgn_mil.preprocessing.sections.alignment import Alignment, Orientation
from tcgn_mil.preprocessing.sections.overlay import write_overlay
from tcgn_mil.types.tile_geometry import PatchSize


def draw_slide_maps(path: Path) -> None:
    """Draw attention, a predictable gene, a weak one, and one that is not predictable."""
    generator = np.random.default_rng(1)
    corners, side = made_tissue.tile_corners(), made_tissue.LEVEL0_PX
    cluster = made_tissue.cluster_score(corners + made_tissue.TILE_PX / 2, side)
    noise = generator.normal(size=len(corners))
    attention = 0.6 + cluster
    attention /= attention.mean()
    label = "score (sd of patients)"
    genes = (
        ("CD3E\nr 0.52", 3 * cluster - 0.5 + 0.2 * noise, True),
        ("EPCAM\nr 0.21", 0.02 * noise, True),
        ("OR4F5\nnot predictable (r 0.01)", noise, False),
    )
    panels = [
        MapPanel(
            "attention\nwhere the model looks",
            attention,
            plotting.attention_scale(attention, "times the average tile"),
        ),
        *(
            MapPanel(title, values, plotting.score_scale(values, label, predictable=sure))
            for title, values, sure in genes
        ),
    ]
    slide = MappedSlide(
        made_tissue.tissue_picture(),
        corners,
        made_tissue.TILE_PX,
        (side, side),
        made_tissue.MPP,
    )
    slide_maps(slide, panels, path, title=f"a made slide, n = {len(corners)} tiles")


def _spots() -> np.ndarray:
    steps = np.arange(20.0, 300, 14)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    inside: np.ndarray = grid[np.hypot(*(grid - 150).T) < 125]
    return inside


def draw_spot_maps(path: Path) -> None:
    """Draw measured and predicted spots of two genes beside the section."""
    generator = np.random.default_rng(2)
    spots = _spots()
    cluster = made_tissue.cluster_score(spots, 300)
    truth = np.stack([3 * cluster, 0 * cluster + 2], axis=1)
    truth += generator.normal(0, 0.5, truth.shape)
    predicted = np.stack([1.0 + 1.5 * cluster, 2 + 0.03 * generator.normal(size=len(spots))], 1)
    section = MappedSection(spots, 7.0, made_tissue.tissue_picture(), (0, 300, 300, 0))
    spot_maps(
        section,
        ["CD3E", "OR4F5"],
        truth,
        predicted,
        path,
        unit="log1p(counts per 10,000)",
        title="a made section",
        notes=["depth-adjusted r 0.61", "depth-adjusted r 0.02"],
    )


def draw_image_explanation(path: Path) -> None:
    """Draw Grad-CAM, integrated gradients and one patch graph of a made spot."""
    generator = np.random.default_rng(3)
    picture = made_tissue.tissue_picture()[20:220, 60:260]
    y, x = np.mgrid[:7, :7]
    cam = 0.02 * np.exp(-((x - 4) ** 2 + (y - 2) ** 2) / 3)[None].astype(np.float32)
    relevance = generator.normal(0, 2e-5, (1, 224, 224)).astype(np.float32)
    relevance[0, 40:90, 110:170] += 4e-5
    edges = torch.from_numpy(generator.integers(0, 49, (1, 120, 2)))
    weight = torch.from_numpy(generator.uniform(0.01, 0.1, (1, 120)).astype(np.float32))
    total = np.array([relevance.sum()], dtype=np.float32)
    explanation = Explanation(
        np.array([2.4], np.float32),
        cam,
        np.array([-0.05], np.float32),
        relevance,
        total,
        np.array([0.001], np.float32),
        [LearnedGraph(edges, weight, (7, 7))],
    )
    # The figure reads names and units of the model, and never its network.
    model = GeneModel(
        cast(TileEncoder, None),
        ("CD3E",),
        "log1p(counts per 10,000)",
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
        PatchSize(200, 0.5),
        predictability={"CD3E": Predictability("depth-adjusted r 0.61 on 2 test sections", True)},
    )
    image = ExplainedImage("spot", "a made spot", picture, {"CD3E": 2.9}, "test")
    draw_explanation(image, model, explanation, 0, path)


def draw_overlay(path: Path) -> None:
    """Draw a section with its spots, and how well other orientations would fit."""
    spots = _spots()
    totals = 500 + 4000 * made_tissue.cluster_score(spots, 300)
    obs = pd.DataFrame(
        {"section": "A1", "patient": "A", "total_counts": totals},
        index=[f"spot{row}" for row in range(len(spots))],
    )
    adata = anndata.AnnData(np.zeros((len(spots), 1), np.float32), obs=obs)
    adata.obsm["spatial"], adata.uns["mpp"] = spots, 7.0
    names = ("as given", "x mirrored", "y mirrored", "turned by 180°")
    shown = [
        Orientation(name, 0.3 - 0.04 * row, 0.99 - 0.03 * row, 0, 0.5 - 0.15 * row)
        for row, name in enumerate(names)
    ]
    write_overlay(
        path,
        made_tissue.tissue_picture(),
        adata,
        Alignment(tuple(shown), len(spots)),
        size_um=(2100.0, 2100.0),
        field_um=77.0,
    )


def draw_planted_truth(path: Path) -> None:
    """Draw planted tissue beside the prediction of a gene that follows it."""
    side_um = made_tissue.LEVEL0_PX * made_tissue.MPP
    corners = made_tissue.tile_corners() * made_tissue.MPP
    tile_um = made_tissue.TILE_PX * made_tissue.MPP
    steps = (np.arange(100) + 0.5) * side_um / 100
    pixels = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    near = made_tissue.cluster_score(pixels, side_um).reshape(100, 100)
    inside = (np.hypot(*(pixels - side_um / 2).T) < 0.44 * side_um).reshape(100, 100)
    stroma, immune = (REGIONS.index(name) + 1 for name in ("stroma", "immune"))
    labels = np.where(near > 0.4, immune, np.where(inside, stroma, 0)).astype(np.uint8)
    centres = (corners + tile_um / 2).astype(np.float64)
    scores = 4 * made_tissue.cluster_score(centres, side_um)[:, None] - 0.5
    scores = scores + np.random.default_rng(4).normal(0, 0.4, scores.shape)
    tiles = MappedTiles(
        anndata.AnnData(scores.astype(np.float32), var=pd.DataFrame(index=["CD3E"])),
        labels,
        side_um / 100,
        centres,
        tile_um,
    )
    compared = [
        Comparison(("immune",), (), "immune aggregates", "CD3E"),
        Comparison(("immune",), ("stroma",), "immune minus stroma", "CD3E"),
    ]
    draw_comparisons(tiles, made_tissue.tissue_picture(), compared, path)


ENTRIES = (
    Entry(
        "slide_maps",
        "Maps of a slide",
        "`tcgn-mil predict`, maps/SLIDE.png",
        "Attention says where the model looks: 1 is the average tile. A score of 1 means that the"
        " tile alone would raise the prediction by one standard deviation of the training patients."
        " The colours reach at least half a standard deviation on each side, so that the weak map"
        " of EPCAM stays pale. The title says how well the gene is predicted in cross-validation,"
        " and a gene that is not predictable is drawn in pale colours.",
        draw_slide_maps,
    ),
    Entry(
        "spot_maps",
        "Maps of a section",
        "`tcgn-mil pretrain` and `tcgn-mil spot-cv`, maps_SECTION.png",
        "Each row is a gene: the section as the network sees it, the measured values, and the"
        " predictions. Both maps have colours of their own, because predictions vary less than"
        " measurements. The correlation under the name is adjusted for sequencing depth.",
        draw_spot_maps,
    ),
    Entry(
        "explanation",
        "An explanation",
        "`tcgn-mil explain`, figures/IMAGE_GENE.png",
        "Grad-CAM shows which cells of the last map add to the prediction. Integrated gradients"
        " show which places raise it (red) or lower it (blue), compared with white glass. The"
        " graph shows the strongest of the edges that the network has learned.",
        draw_image_explanation,
    ),
    Entry(
        "overlay",
        "Spots on their section",
        "`tcgn-mil spots`, SECTION_spots.png",
        "The squares are the patches that the encoder sees, coloured by their counts. The bars"
        " compare the tissue under the spots with that in other orientations; a higher bar of"
        " another orientation is a sign that positions and image do not belong together.",
        draw_overlay,
    ),
    Entry(
        "planted_truth",
        "Planted tissue and its prediction",
        "`tcgn-mil demo`, planted-truth/truth_beside_prediction.png",
        "In the demo it is known what tissue each tile holds. The scores of a gene that follows"
        " this tissue should have the same pattern.",
        draw_planted_truth,
    ),
)
