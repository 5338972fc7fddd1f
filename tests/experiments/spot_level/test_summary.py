"""Tests of the labels of a cross-validation."""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.spot_level.summary import spot_cv_labels


def test_the_published_preset_is_labelled_and_stands_above_a_config_file(tmp_path: Path) -> None:
    from tcgn_mil.config import resolve_config
    from tcgn_mil.experiments.spot_level.config import preset_values

    path = tmp_path / "all.yaml"
    path.write_text("group_by: patient\ntraining: {epochs: 30, seed: 4}\n", encoding="utf-8")
    found = resolve_config(
        SpotConfig,
        yaml_path=path,
        preset=preset_values("published"),
        overrides=["training.epochs=5"],
    )
    assert (found.group_by, found.training.epochs, found.training.seed, found.preset) == (
        "section",
        5,
        4,
        "published",
    )
    text = " ".join(spot_cv_labels(found, []))
    assert "preset published" in text
    assert "truncated: 5 of its 79 epochs" in text
    assert "not the paper's panel" in text
