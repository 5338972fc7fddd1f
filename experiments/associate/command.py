"""The verb ``tcgn-mil associate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.command_line.console import print_config, print_rows, resolve
from tcgn_mil.experiments.command_line.early import Needed, check_inputs
from tcgn_mil.experiments.command_line.options import (
    Config,
    Out,
    Overrides,
    ShowConfig,
    config_option,
)
from tcgn_mil.text import preview


def associate(
    predicted: Annotated[Path | None, config_option(AssociationConfig, "predicted")] = None,
    measured: Annotated[Path | None, config_option(AssociationConfig, "measured")] = None,
    covariates: Annotated[Path | None, config_option(AssociationConfig, "covariates")] = None,
    covariate: Annotated[list[str] | None, config_option(AssociationConfig, "covariate")] = None,
    adjust_for: Annotated[list[str] | None, config_option(AssociationConfig, "adjust_for")] = None,
    zero_unknown: Annotated[
        list[str] | None, config_option(AssociationConfig, "zero_unknown")
    ] = None,
    sets: Annotated[list[Path] | None, config_option(AssociationConfig, "sets")] = None,
    genes: Annotated[Path | None, config_option(AssociationConfig, "genes")] = None,
    follow: Annotated[str | None, config_option(AssociationConfig, "follow")] = None,
    spots_dir: Annotated[Path | None, config_option(AssociationConfig, "spots", "--spots")] = None,
    cell_types: Annotated[Path | None, config_option(AssociationConfig, "cell_types")] = None,
    out: Out = Path("association"),
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Relate predicted expression to immune signatures, covariates, gene sets or cell types."""
    given = {
        "predicted": predicted,
        "measured": measured,
        "covariates": covariates,
        "covariate": covariate,
        "adjust_for": adjust_for,
        "zero_unknown": zero_unknown,
        "sets": sets,
        "genes": genes,
        "follow": follow,
        "spots": spots_dir,
        "cell_types": cell_types,
    }
    resolved = resolve(AssociationConfig, given, path=config, overrides=overrides)
    if show_config:
        return print_config(resolved)
    check_inputs(
        Needed(resolved.predicted, "--predicted", "finetune, slide-cv or predict"),
        Needed(resolved.measured, "--measured", "bulk"),
        Needed(resolved.covariates, "--covariates"),
        Needed(resolved.genes, "--genes"),
        Needed(resolved.spots, "--spots", "spots"),
        Needed(resolved.cell_types, "--cell-types"),
    )
    from tcgn_mil.experiments.associate.run import run  # heavy, so not at the top of the file

    summary = run(resolved, out)
    for line in (*_coverage(summary), *summary.get("notes", [])):
        typer.echo(line, err=True)
    for rows in (
        summary.get("signatures"),
        summary.get("covariates", {}).get("top"),
        summary.get("cell_types"),
    ):
        if rows and isinstance(rows, list):
            print_rows(rows)
    if "follow" in summary:
        score = summary["follow"]
        typer.echo(
            f"{score['genes']} genes follow {score['score']} ({score['source']}) at q < 0.05"
        )
    typer.echo(f"{out}")
    return None


def _coverage(summary: dict[str, Any]) -> list[str]:
    """Return one line for each signature that has no score or that lacks genes.

    A line that is the same for predicted and measured values is given once.
    """
    lines = [f"{row['set']}: {row['refused']}" for row in summary.get("refused", [])]
    lines += [
        f"{row['set']}: {row['present']} of {row['genes']} genes, without"
        f" {preview(row['missing_genes'].split(';'))}"
        for row in summary.get("missing_genes", [])
    ]
    return list(dict.fromkeys(lines))
