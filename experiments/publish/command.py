"""The verbs ``tcgn-mil publish`` and ``tcgn-mil export-predictions``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import resolve
from tcgn_mil.experiments.command_line.early import Needed, check_inputs
from tcgn_mil.experiments.command_line.options import config_option
from tcgn_mil.experiments.publish.config import ExportConfig, PublishConfig

_RUN = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="Folder that tcgn-mil pretrain, finetune or slide-cv wrote."
    ),
]
_RUNS = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...", help="Folders that tcgn-mil finetune, slide-cv or predict wrote."
    ),
]
_FOLDER = typer.Option("--out", help="Folder to write.", file_okay=False)


def publish(
    run: _RUN,
    to: Annotated[str | None, config_option(PublishConfig, "to")] = None,
    out: Annotated[Path, _FOLDER] = Path("published"),
    private: Annotated[bool, config_option(PublishConfig, "private", "--private/--public")] = True,
    licence: Annotated[str | None, config_option(PublishConfig, "licence")] = None,
    data_licence: Annotated[str | None, config_option(PublishConfig, "data_licence")] = None,
    names: Annotated[str | None, config_option(PublishConfig, "names")] = None,
) -> None:
    """Write a model as safetensors, JSON and a model card; with --to, upload it to the hub."""
    config = resolve(
        PublishConfig,
        {
            "run": run,
            "to": to,
            "private": private,
            "licence": licence,
            "data_licence": data_licence,
            "names": names,
        },
    )
    check_inputs(Needed(run, "RUN", "finetune, slide-cv or pretrain"))
    # What loads torch is imported after the paths have been checked.
    from tcgn_mil.experiments.publish.run import publish as write_and_upload

    done = write_and_upload(config, out)
    for what, given in (("--licence", licence), ("--data-licence", data_licence)):
        if given is None:
            typer.echo(f"{what} was not given: the card says that it is not stated", err=True)
    typer.echo(f"{done.kind}: {done.folder}")
    if done.page is None:
        typer.echo(f"Read {done.folder / 'README.md'}, and upload the model with --to owner/name")
    else:
        typer.echo(f"Uploaded to {done.page} (revision {done.revision})")


def export_predictions(
    runs: _RUNS, out: Annotated[Path, _FOLDER] = Path("exported-predictions")
) -> None:
    """Export predictions of runs for a paper: CSV, .h5ad, a README and digests."""
    config = resolve(ExportConfig, {"runs": runs})
    check_inputs(*(Needed(run, "RUN", "finetune, slide-cv or predict") for run in runs))
    from tcgn_mil.experiments.publish.export import export_runs

    for line in export_runs(config, out):
        typer.echo(line)
    typer.echo(f"{out}")
