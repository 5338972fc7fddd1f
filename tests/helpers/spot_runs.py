"""Config of a small spot-level run, for sections of ``spot_sections``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tcgn_mil.experiments.spot_level.config import SpotConfig, TargetConfig
from tcgn_mil.settings.encoder import EncoderOptions
from tcgn_mil.settings.training import TrainingConfig

PATIENTS = {"A1": "A", "A2": "A", "B1": "B", "C1": "C", "D1": "D"}


TRAINING = TrainingConfig(epochs=2, batch_size=32, lr=3e-3, average=0.9)


def config_of(spots: Path, **changes: Any) -> SpotConfig:
    config = SpotConfig(
        spots=str(spots),
        model="resnet10t",
        encoder_options=EncoderOptions(untrained=True),
        input_px=32,
        n_folds=2,
        training=TRAINING,
        views=1,
        target=TargetConfig(remove_depth=True, rank=2),
    )
    return replace(config, **changes)
