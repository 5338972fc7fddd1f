"""A vision transformer, which has no map for Grad-CAM, is explained by integrated gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tcgn_mil import plotting
from tcgn_mil.experiments.explain.attribution_tables import explain_image, explanation_tables
from tcgn_mil.experiments.explain.figures import draw_explanation
from tcgn_mil.experiments.explain.gene_models import ChosenGenes, GeneModel
from tcgn_mil.experiments.explain.images import ExplainedImage
from tcgn_mil.experiments.explain.report import REPORT
from tcgn_mil.inference.tile_encoder import TileEncoder
from tcgn_mil.models.encoders import start_encoder
from tcgn_mil.types.tile_geometry import PatchSize

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet10t"])
def test_only_a_model_with_a_map_has_grad_cam(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = SMALL if name.startswith("vit") else {}
    started = start_encoder(f"timm:{name}", 2, arguments=arguments, untrained=True, input_px=32)
    network: Any = TileEncoder(
        ChosenGenes(started.model, [1]).eval(), name, None, started.input_spec
    )
    mean, std = np.zeros(1, np.float32), np.ones(1, np.float32)
    model = GeneModel(network, ("GZMA",), "log1p", mean, std, PatchSize(32, 0.5))
    explanation = explain_image(model, PIXELS, steps=32)
    picture = ExplainedImage("tile", "a tile", PIXELS)
    tables = explanation_tables(picture, model, explanation)
    row, nodes = tables["explanations"].iloc[0], tables["nodes"]
    # What integrated gradients add up to does not depend on the model having a map.
    total = nodes["relevance"].sum()
    assert total == pytest.approx(row["ig_change"] + row["ig_delta"], rel=1e-3, abs=1e-5)
    has_map = name == "resnet10t"
    assert (explanation.cam is not None) == has_map
    assert np.isfinite([row["cam_sum"], row["cam_against"]]).all() == has_map
    assert nodes["cam"].notna().all() == has_map
    titles: list[str] = []
    monkeypatch.setattr(
        plotting,
        "save",
        lambda figure, _: titles.extend(axes.get_title() for axes in figure.axes if axes.images),
    )
    draw_explanation(picture, model, explanation, 0, "figure.png")
    assert [title.partition("\n")[0].partition(",")[0] for title in titles] == [
        "picture",
        *(["Grad-CAM"] if has_map else []),
        "integrated gradients from white",
    ]


def test_the_report_says_what_was_done_and_repeats_the_encoder_with_its_options() -> None:
    config = {
        "encoder": "w.pth",
        "encoder_options": {"model": "uni2-h", "pooling": "mean", "arguments": {"img_size": 448}},
        "steps": 8,
        "top": 1,
        "genes": ["GZMA"],
        "image": "tile.png",
    }
    run: Any = type("Run", (), {"made": {"config": config}})
    command = REPORT.command(run)
    assert (
        "--encoder w.pth --encoder-model uni2-h --pooling mean --encoder-argument img_size=448"
        in command
    )
    summary = {"genes": ["GZMA"], "grad_cam": False}
    assert "Grad-CAM" not in REPORT.methods(config, summary)
    assert "Grad-CAM" in REPORT.methods(config, {"genes": ["GZMA"]})
