"""From expression to survival: ``survive``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import print_config, print_rows, resolve
from tcgn_mil.experiments.command_line.options import Config, Out, Overrides, ShowConfig


def survive(
    clinical: Annotated[
        Path | None,
        typer.Option(
            help="clinical.csv that tcgn-mil clinical wrote.", show_default="clinical.csv"
        ),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(help="Endpoint: OS, DSS, DFI, PFI, or one of its own.", show_default="OS"),
    ] = None,
    predicted: Annotated[
        Path | None,
        typer.Option(
            help="Predictions (.h5ad), or any table of patients x genes.", show_default=False
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            help="Measured expression, likewise: the ceiling.",
            show_default="that in the predictions",
        ),
    ] = None,
    covariate: Annotated[
        list[str] | None,
        typer.Option(help="Column of clinical.csv for the clinical model; repeatable."),
    ] = None,
    signatures: Annotated[
        Path | None,
        typer.Option(
            help="GMT of gene sets, for --set risk.features=signatures or both.",
            show_default="immune sets",
        ),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="CSV with fold, part (train, val, test), id; made by seed if not given."),
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(help="Days at which follow-up ends.", show_default="all of it")
    ] = None,
    out: Out = Path("survival"),
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Out-of-fold survival models: clinical, predicted, both, measured; C, tests, curves, and a screen of all genes."""
    from tcgn_mil.experiments.survive import run as survival
    from tcgn_mil.experiments.survive.config import SurviveConfig

    given = {
        "clinical": clinical,
        "endpoint": endpoint,
        "predicted": predicted,
        "measured": measured,
        "covariates": covariate or None,
        "signatures": signatures,
        "folds": folds,
        "horizon_days": horizon,
    }
    resolved = resolve(SurviveConfig, given, path=config, overrides=overrides)
    if show_config:
        return print_config(resolved)
    summary = survival.run(resolved, out)
    print_rows(summary["results"])
    for label in summary["labels"]:
        typer.echo(label, err=True)
    typer.echo(f"{summary['sentence']}\n{out}")
    return None
