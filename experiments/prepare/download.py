"""The verb ``download``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.console import finish_cohort, resolve
from tcgn_mil.experiments.command_line.options import Out, config_option
from tcgn_mil.preprocessing.download.config import GdcConfig, Her2stConfig, TransferConfig
from tcgn_mil.text import counted, preview

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tcgn_mil.preprocessing.download.fetch_all import Fetched
    from tcgn_mil.preprocessing.download.gdc import GdcPlan
    from tcgn_mil.preprocessing.download.remote_file import RemoteFile

_SOURCES = ("her2st", "gdc")


def download(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="her2st (sections of spatial transcriptomics) or gdc (slides, RNA-seq and clinical"
            " data of a project of the Genomic Data Commons, such as TCGA-COAD).",
        ),
    ],
    out: Out = Path("download"),
    project: Annotated[str | None, config_option(GdcConfig, "project")] = None,
    cases: Annotated[Path | None, config_option(GdcConfig, "cases")] = None,
    slides: Annotated[str | None, config_option(GdcConfig, "slides")] = None,
    expression: Annotated[str | None, config_option(GdcConfig, "expression")] = None,
    clinical: Annotated[
        bool | None, config_option(GdcConfig, "clinical", "--clinical/--no-clinical")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write the lists of files and patients, and fetch no file."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Start without asking, also without a terminal.")
    ] = False,
    workers: Annotated[int | None, config_option(TransferConfig, "workers")] = None,
    attempts: Annotated[int | None, config_option(TransferConfig, "attempts")] = None,
    backoff: Annotated[
        float | None, config_option(TransferConfig, "backoff_s", "--backoff")
    ] = None,
    timeout: Annotated[
        float | None, config_option(TransferConfig, "timeout_s", "--timeout")
    ] = None,
    api: Annotated[
        str | None,
        typer.Option(
            "--api", help="Address of the server, for a mirror.", show_default="that of the source"
        ),
    ] = None,
) -> None:
    """Download public data into folders that the other verbs read.

    The number of files and their size are shown before the start. A download that was stopped is
    continued by the same command, and files that are there and right are not fetched again. Files
    that cannot be had are listed in failures.csv; download.json says what made the folder.
    """
    of_gdc: dict[str, Any] = {
        "project": project,
        "cases": cases,
        "slides": slides,
        "expression": expression,
        "clinical": clinical,
    }
    transfer = resolve(
        TransferConfig,
        {
            "workers": workers,
            "attempts": attempts,
            "backoff_s": backoff,
            "timeout_s": timeout,
        },
    )
    if source not in _SOURCES:
        raise InputError(f"unknown source {source!r}", fix=f"choose one of {', '.join(_SOURCES)}")
    if source == "gdc":
        done = _gdc({**of_gdc, "api": api}, out, transfer, dry_run=dry_run, yes=yes)
    else:
        if given := [f"--{name}" for name, value in of_gdc.items() if value is not None]:
            raise InputError(
                f"{preview(given)}: has no effect on her2st", fix=f"remove {preview(given)}"
            )
        done = _her2st({"address": api}, out, transfer, dry_run=dry_run, yes=yes)
    if done is None:
        return
    if done.kept:
        typer.echo(f"{counted(len(done.kept), 'file')} kept, which were there and right")
    finish_cohort(len(done.fetched) + len(done.kept), done.failures, out, what="there", unit="file")


def _gdc(
    given: Mapping[str, Any], out: Path, transfer: TransferConfig, *, dry_run: bool, yes: bool
) -> Fetched | None:
    from tcgn_mil.preprocessing.download.gdc import MANIFEST, download_gdc, list_gdc, plan_gdc
    from tcgn_mil.preprocessing.download.record import check_folder

    if given["project"] is None:
        raise InputError(
            "the project is not given", fix="give --project, for example --project TCGA-COAD"
        )
    plan = plan_gdc(resolve(GdcConfig, given), out, transfer)
    check_folder(out, plan.origin)
    for note in plan.notes:
        typer.echo(note, err=True)
    release = plan.origin.release or "release not stated"
    typer.echo(f"{plan.origin.name} ({release}): {_contents(plan)}")
    if dry_run:
        list_gdc(plan, out)
        typer.echo(f"Nothing was fetched. The lists are in {out}, and {MANIFEST} is for gdc-client")
        return None
    _confirm(plan.files, out, yes=yes)
    return download_gdc(plan, out, transfer)


def _contents(plan: GdcPlan) -> str:
    from tcgn_mil.preprocessing.download.fetch_all import in_bytes
    from tcgn_mil.preprocessing.download.gdc import EXPRESSION, SLIDES

    parts = [
        f"{counted(len(files), what)} ({in_bytes(sum(file.size or 0 for file in files))})"
        for folder, what in ((SLIDES, "slide"), (EXPRESSION, "expression file"))
        if (files := plan.of(folder))
    ]
    if plan.cases:
        parts.append(f"clinical data of {counted(len(plan.cases), 'patient')}")
    return ", ".join(parts) or "no file"


def _her2st(
    given: Mapping[str, Any], out: Path, transfer: TransferConfig, *, dry_run: bool, yes: bool
) -> Fetched | None:
    from tcgn_mil.preprocessing.download.her2st import download_her2st, list_her2st, plan_her2st

    plan = plan_her2st(resolve(Her2stConfig, given), out, transfer)
    typer.echo(f"her2st (commit {plan.origin.name[:12]}): {counted(len(plan.files), 'file')}")
    if dry_run:
        list_her2st(plan, out)
        typer.echo(f"Nothing was fetched. {_size(plan.files, out)}")
        return None
    _confirm(plan.files, out, yes=yes)
    return download_her2st(plan, out, transfer)


def _size(files: Sequence[RemoteFile], out: Path) -> str:
    from tcgn_mil.preprocessing.download.fetch_all import in_bytes, missing_bytes

    total = sum(file.size or 0 for file in files)
    missing = sum(missing_bytes(file, out) for file in files)
    unsized = sum(file.size is None for file in files)
    beside = f", and {counted(unsized, 'file')} of unknown size" if unsized else ""
    return f"Together {in_bytes(total)}{beside}; to fetch: {in_bytes(missing)}"


def _confirm(files: Sequence[RemoteFile], out: Path, *, yes: bool) -> None:
    """Show the size, and ask on a terminal; without one, ``--yes`` is needed."""
    typer.echo(f"{_size(files, out)}, into {out}")
    if yes or not files:
        return
    if not sys.stdin.isatty():
        raise InputError(
            "nothing was fetched, because there is no terminal to ask on",
            fix="give --yes to start, or --dry-run to write the lists alone",
        )
    typer.confirm("Start?", default=True, abort=True)
