"""Tests of explanations of tiles: scores of slide models, and slides that fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_hub import FakeHub

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.explain.images import ExplainedSlides
from tcgn_mil.experiments.publish.config import PublishConfig
from tcgn_mil.experiments.publish.run import publish
from tcgn_mil.inference.fold_models import load_fold_models, union_panel
from tcgn_mil.inference.patients import predict_patient
from tcgn_mil.io.feature_files import find_features
from tcgn_mil.settings.encoder import EncoderOptions

GENES = ("SYN_IMMUNE_01", "SYN_NULL_01")


def test_tiles_of_top_attention_are_explained_by_the_score_that_the_slide_model_gives(
    call, demo: Path, slide_arguments: list[object], tmp_path: Path
) -> None:
    features = find_features(demo / "features")
    slide = sorted(features)[1]
    answer = call(*slide_arguments, "--gene", GENES[0], "--slide", slide, "--out", tmp_path)
    assert answer.code == 0, answer.err
    folds = load_fold_models(demo / "slide-model")
    patient = slide[:12]
    paths = [path for name, path in features.items() if name.startswith(patient)]
    expected = predict_patient(patient, paths, folds, union_panel(folds), GENES[:1])
    own = np.flatnonzero(expected.slide_index == paths.index(features[slide]))
    best = own[np.argsort(-expected.attention[own], kind="stable")[:2]]
    found = pd.read_csv(tmp_path / "explanations.csv")
    assert found["picture"].tolist() == [
        f"{slide}_x{x}_y{y}" for x, y in expected.coords[best].tolist()
    ]
    np.testing.assert_allclose(
        found["predicted"], expected.tile_scores[best, 0], atol=2e-3
    )  # features are float16
    assert set(found["unit"]) == {"standardised tile score"}


def test_a_slide_that_cannot_be_explained_costs_a_row(
    call, demo: Path, slide_arguments: list[object], tmp_path: Path
) -> None:
    good, bad = sorted(find_features(demo / "features"))[:2]
    shutil.copytree(demo / "tiles", tmp_path / "tiles")
    (tmp_path / "tiles" / f"{bad}.h5").write_bytes(b"no HDF5")
    answer = call(
        *slide_arguments,
        "--tiles",
        tmp_path / "tiles",
        "--gene",
        GENES[0],
        "--slide",
        bad,
        "--slide",
        good,
        "--out",
        tmp_path / "out",
    )
    assert answer.code == 1
    failures = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert failures[["slide", "stage"]].to_numpy().tolist() == [[bad, "explain"]]
    assert pd.read_csv(tmp_path / "out" / "explanations.csv")["picture"].str.startswith(good).all()


def test_the_encoder_has_to_be_that_of_the_features(demo: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"is untrained:timm:resnet10t-\w+, but the slide model reads .* tcgn_tiny",
    ):
        ExplainedSlides(
            str(demo / "slide-model"),
            "timm:resnet10t",
            str(demo / "features"),
            GENES[:1],
            options=EncoderOptions(untrained=True),
        )


def test_a_published_model_is_explained_like_the_run(
    call, demo: Path, slide_arguments: list[object], fake_hub: FakeHub, tmp_path: Path
) -> None:
    slide = sorted(find_features(demo / "features"))[1]
    made = publish(PublishConfig(run=str(demo / "slide-model")), tmp_path / "published").folder
    fake_hub.add("owner/model", made)
    tables = []
    for name, model in (("run", demo / "slide-model"), ("hub", "hf-hub:owner/model")):
        out = tmp_path / name
        chosen = ["--slide-model", model, "--gene", GENES[0], "--slide", slide, "--out", out]
        answer = call(*slide_arguments, *chosen)
        assert answer.code == 0, answer.err
        tables.append(pd.read_csv(out / "explanations.csv"))
    pd.testing.assert_frame_equal(*tables)
