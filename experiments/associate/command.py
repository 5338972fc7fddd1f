"""From expression to biology: ``associate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.experiments.command_line.console import print_config, print_rows, resolve
from tcgn_mil.experiments.command_line.options import Config, Out, Overrides, ShowConfig
from tcgn_mil.text import preview


def associate(
    predicted: Annotated[
        Path | None,
        typer.Option(
            help="out_of_fold.h5ad, predicted.h5ad, or any patients x genes: CSV, TSV (.gz, .zip), Parquet."
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            help="Measured expression: cohort.h5ad or a table.", show_default="the predictions' own"
        ),
    ] = None,
    covariates: Annotated[
        Path | None, typer.Option(help="Table with a row a patient, named in column 1.")
    ] = None,
    covariate: Annotated[
        list[str] | None,
        typer.Option(help="Its column to use; may be repeated.", show_default="all that serve"),
    ] = None,
    adjust_for: Annotated[
        list[str] | None,
        typer.Option(help="Its column to take out in partial correlations; may be repeated."),
    ] = None,
    zero_unknown: Annotated[
        list[str] | None,
        typer.Option(
            help="Its column in which exactly 0 means not known, as in TCGA purity; may be repeated."
        ),
    ] = None,
    sets: Annotated[
        list[Path] | None,
        typer.Option(help="GMT, or CSV with a column a set, beside the shipped ones; repeatable."),
    ] = None,
    genes: Annotated[
        Path | None,
        typer.Option(
            help="Predictable genes, one a line.", show_default="those of the predictions"
        ),
    ] = None,
    follow: Annotated[
        str | None,
        typer.Option(help="Signature or numeric covariate: which predicted genes follow it?"),
    ] = None,
    spots_dir: Annotated[
        Path | None,
        typer.Option(
            "--spots", help="Spots instead of patients: folder that tcgn-mil spot-cv wrote."
        ),
    ] = None,
    cell_types: Annotated[
        Path | None,
        typer.Option(help="Cell types of the spots: ZIP or folder of <section>-proportion.tsv."),
    ] = None,
    out: Out = Path("association"),
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Associate predicted expression with measured immune genes and signatures, covariates, gene sets or cell types."""
    from tcgn_mil.experiments.associate import run as association
    from tcgn_mil.experiments.associate.config import AssociationConfig

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
    summary = association.run(resolved, out)
    for line in _coverage(summary):
        typer.echo(line, err=True)
    for note in summary.get("notes", []):
        typer.echo(note, err=True)
    for rows in (
        summary.get("signatures"),
        summary.get("covariates", {}).get("top"),
        summary.get("cell_types"),
    ):
        if rows and isinstance(rows, list):
            print_rows(rows)
    if "follow" in summary:
        found = summary["follow"]
        typer.echo(
            f"{found['genes']} genes follow {found['score']} ({found['source']}) at q < 0.05"
        )
    typer.echo(f"{out}")
    return None


def _coverage(summary: dict[str, Any]) -> list[str]:
    """A line a signature that has no score, or lacks genes; once where predicted and measured are alike."""
    lines = [f"{row['set']}: {row['refused']}" for row in summary.get("refused", [])]
    lines += [
        f"{row['set']}: {row['present']} of {row['genes']} genes, without {preview(row['missing_genes'].split(';'))}"
        for row in summary.get("missing_genes", [])
    ]
    return list(dict.fromkeys(lines))
