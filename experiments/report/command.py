"""The verb ``tcgn-mil report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.early import Needed, check_inputs


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of finished runs (of slide-cv, survive and others), or folders above"
            " them."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.", dir_okay=False)] = Path(
        "report.html"
    ),
    title: Annotated[str, typer.Option(help="Title of the page.")] = "tcgn-mil report",
) -> None:
    """Write one HTML page about finished runs: figures, tables to sort and search, methods."""
    check_inputs(*(Needed(run, "RUNS") for run in runs))
    # What loads torch is imported after the paths have been checked.
    from tcgn_mil.experiments.report.run import write_run_report

    typer.echo(f"{write_run_report(runs, out, title=title)}")
