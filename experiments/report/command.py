"""The verb ``tcgn-mil report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    from tcgn_mil.experiments.report.run import write_run_report

    typer.echo(f"{write_run_report(runs, out, title=title)}")
