"""The verb ``tcgn-mil survive``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import print_config, print_rows, resolve
from tcgn_mil.experiments.command_line.early import Needed, check_inputs
from tcgn_mil.experiments.command_line.options import (
    Config,
    Out,
    Overrides,
    ShowConfig,
    config_option,
)
from tcgn_mil.experiments.survive.config import SurviveConfig


def survive(
    clinical: Annotated[Path | None, config_option(SurviveConfig, "clinical")] = None,
    endpoint: Annotated[str | None, config_option(SurviveConfig, "endpoint")] = None,
    predicted: Annotated[Path | None, config_option(SurviveConfig, "predicted")] = None,
    measured: Annotated[Path | None, config_option(SurviveConfig, "measured")] = None,
    covariate: Annotated[list[str] | None, config_option(SurviveConfig, "covariates")] = None,
    sets: Annotated[Path | None, config_option(SurviveConfig, "signatures")] = None,
    folds: Annotated[Path | None, config_option(SurviveConfig, "folds")] = None,
    horizon: Annotated[float | None, config_option(SurviveConfig, "horizon_days")] = None,
    out: Out = Path("survival"),
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Test out of fold whether expression predicts survival, beside clinical covariates."""
    given = {
        "clinical": clinical,
        "endpoint": endpoint,
        "predicted": predicted,
        "measured": measured,
        "covariates": covariate or None,
        "signatures": sets,
        "folds": folds,
        "horizon_days": horizon,
    }
    resolved = resolve(SurviveConfig, given, path=config, overrides=overrides)
    if show_config:
        return print_config(resolved)
    check_inputs(
        Needed(resolved.clinical, "--clinical", "clinical"),
        Needed(resolved.predicted, "--predicted", "finetune, slide-cv or predict"),
        Needed(resolved.measured, "--measured", "bulk"),
        Needed(resolved.signatures, "--sets"),
        Needed(resolved.folds, "--folds"),
    )
    from tcgn_mil.experiments.survive.run import run

    summary = run(resolved, out)
    print_rows(summary["results"])
    for label in summary["labels"]:
        typer.echo(label, err=True)
    typer.echo(f"{summary['sentence']}\n{out}")
    return None
