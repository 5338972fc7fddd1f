"""Draw the picture of a predicted slide: attention, and the scores of genes and gene sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tcgn_mil.experiments.runs.predictability import UNKNOWN
from tcgn_mil.experiments.runs.slide_map_figure import MapPanel, MappedSlide, slide_maps
from tcgn_mil.interpret.attention_edges import edge_attention
from tcgn_mil.plotting import attention_scale, score_scale

if TYPE_CHECKING:
    from tcgn_mil.experiments.predict.maps import SlideMap


def draw_slide_map(slide_map: SlideMap, path: Path) -> None:
    """Draw attention and scores; a gene that no model of the patient has gets no panel."""
    tiles = len(slide_map.coords)
    slide_maps(
        MappedSlide(
            slide_map.thumbnail,
            slide_map.coords,
            slide_map.level0_px,
            slide_map.slide_size,
            slide_map.mpp,
        ),
        [_attention_panel(slide_map), *_score_panels(slide_map)],
        path,
        title=f"{slide_map.slide_id} ({slide_map.patient_id}), n = {tiles:,} tiles;"
        " r of a gene is that of cross-validation",
    )


def _attention_panel(slide_map: SlideMap) -> MapPanel:
    values = slide_map.relative_attention
    edges = edge_attention(slide_map.coords, slide_map.level0_px, slide_map.attention)
    warning = "caution: high at the tissue edges" if edges.is_high else "where the model looks"
    return MapPanel(
        f"attention\n{warning}", values, attention_scale(values, "times the average tile")
    )


def _score_panels(slide_map: SlideMap) -> Iterator[MapPanel]:
    """Give one panel for each gene and gene set, with its predictability in the title."""
    for name, scores in slide_map.named_scores.items():
        if not np.isfinite(scores).any():
            continue
        if name in slide_map.genes:
            words, sure = slide_map.predictability.get(name, UNKNOWN)
        else:
            words, sure = "gene set, mean of its genes", True
        yield MapPanel(
            f"{name}\n{words}",
            scores,
            score_scale(scores, "score (sd of patients)", predictable=sure),
        )
