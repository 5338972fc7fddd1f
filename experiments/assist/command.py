"""The verbs ``status``, ``doctor`` and ``config``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.experiments.command_line.early import Needed, check_inputs
from tcgn_mil.experiments.command_line.help_pages import ExitWithResult


def status(
    folder: Annotated[Path, typer.Argument(help="Folder that a command writes, its --out.")],
) -> dict[str, Any]:
    """Tell how far the work in a folder is: done, failed, left, rate and time to go.

    It reads the folder and its log.jsonl, also while commands write there, on any machine. With
    --json it prints the numbers as JSON.
    """
    check_inputs(Needed(folder, "FOLDER"))
    from tcgn_mil.experiments.assist.status import folder_status

    parts = folder_status(folder)
    for part in parts:
        typer.echo(str(part))
    return {"parts": [part.as_dict() for part in parts]}


def doctor(
    folder: Annotated[
        Path, typer.Option(help="Folder in which results would be written.")
    ] = Path(),
    self_test: Annotated[
        bool, typer.Option(help="Train a small model, for at most 20 seconds.")
    ] = True,
) -> dict[str, Any]:
    """Look at this machine: versions, OpenSlide, GPU, threads, disk, model hub, and a self-test.

    Ends with one verdict, and exit code 1 if something must be mended.
    """
    from tcgn_mil.experiments.assist.doctor import BAD, examine, verdict_of

    findings = examine(folder, self_test=self_test)
    for finding in findings:
        typer.echo(f"{finding.check:<10} {finding.verdict:<5} {finding.found}")
        if finding.fix:
            typer.echo(f"{'':<17}to do: {finding.fix}")
    typer.echo(verdict_of(findings))
    result = {"verdict": verdict_of(findings), "checks": [each.as_dict() for each in findings]}
    if any(finding.verdict == BAD for finding in findings):
        raise ExitWithResult(1, result)
    return result


def config(
    verb: Annotated[str, typer.Argument(help="Verb that takes --config, such as finetune.")],
) -> None:
    """Print the config of a verb as YAML, with a comment above each key, to save as a file."""
    from tcgn_mil.experiments.assist.config_file import config_text

    typer.echo(config_text(verb), nl=False)
