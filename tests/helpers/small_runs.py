"""Finished runs of a few seconds: slide models of a small cohort, and an encoder of small spots."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from slide_cohorts import make_cohort, write_slide
from spot_runs import PATIENTS as SECTIONS
from spot_runs import config_of
from spot_sections import write_sections

from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.spot_level import pretrain
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.settings.slide_model import MilConfig

PATIENTS, NEW = 24, ("N0", "N1")


def make_small_cohort(folder: Path) -> FinetuneConfig:
    """Make a cohort of `PATIENTS` whose features folder also has the slides of `NEW` patients."""
    config = make_cohort(folder, patients=PATIENTS)
    rng = np.random.default_rng(5)
    for name in NEW:
        write_slide(Path(config.features), f"{name}-1", name, 0.5, rng)
    training = dataclasses.replace(config.training, epochs=3)
    return dataclasses.replace(config, refits=0, training=training)


def run_slide_model(config: FinetuneConfig, out: Path, *, kind: str = "attention") -> Path:
    """Train slide models of three folds on a small cohort; ``kernel`` has refits as well."""
    if kind != "attention":
        model: Any = MilConfig(kind=kind)  # type: ignore[arg-type]
        config = dataclasses.replace(config, model=model, refits=4)
    finetuning.run(config, out)
    return out


def run_encoder(folder: Path) -> Path:
    """Train a small encoder on five sections, of which D1 tests and C1 validates."""
    config = config_of(
        write_sections(folder / "spots", SECTIONS),
        n_folds=SpotConfig().n_folds,
        val_sections=("C1",),
        test_sections=("D1",),
    )
    pretrain.run(config, folder / "encoder")
    return folder / "encoder"
