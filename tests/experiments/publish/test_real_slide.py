"""A model and an encoder from the hub predict a real slide, as the folders of their runs do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
from fake_hub import FakeHub

from tcgn_mil.experiments.publish.config import PublishConfig
from tcgn_mil.experiments.publish.run import publish

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def test_a_slide_is_predicted_by_a_model_and_an_encoder_of_the_hub(
    call: Callable, demo: Path, real_data: Path, fake_hub: FakeHub, tmp_path: Path
) -> None:
    for name in ("slide-model", "encoder"):
        made = publish(PublishConfig(run=str(demo / name)), tmp_path / name).folder
        fake_hub.add(f"owner/{name}", made)
    slide = real_data / "slides" / "CMU-1-Small-Region.svs"
    found = []
    for name, model, weights in (
        ("run", demo / "slide-model", demo / "encoder" / "encoder.safetensors"),
        ("hub", "hf-hub:owner/slide-model", "hf-hub:owner/encoder"),
    ):
        out = tmp_path / f"predicted-{name}"
        answer = call(
            *("predict", "--model", model, "--slides", slide, "--encoder", weights, "--out", out)
        )
        assert answer.code == 0, answer.err
        found.append(anndata.read_h5ad(out / "predicted.h5ad"))
    run, hub = found
    np.testing.assert_array_equal(hub.X, run.X)
    np.testing.assert_array_equal(hub.layers["sd"], run.layers["sd"])
    assert hub.obs["relation"].tolist() == ["new"]
    assert hub.obs["n_tiles"].item() > 10
    assert np.isfinite(hub.X).all()
