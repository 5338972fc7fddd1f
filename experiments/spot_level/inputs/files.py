"""Files that a spot-level run reads, which are recorded when it begins."""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.experiments.spot_level.config import SpotConfig


def input_files(config: SpotConfig) -> dict[str, str | None]:
    """Return the files and folders of a run, by the names that messages use.

    The model is one of them if it is a file; its name is part of the config anyway.
    """
    model = config.model.removeprefix("local-dir:")
    return {
        "spots": config.spots,
        "gene list": config.panel.own_file,
        "folds": config.folds,
        "checkpoint": config.checkpoint,
        "trunk": config.trunk,
        "model": model if Path(model).exists() else None,
    }
