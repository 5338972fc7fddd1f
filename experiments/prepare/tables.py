"""The verbs ``bulk`` and ``clinical``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import print_rows, resolve
from tcgn_mil.experiments.command_line.options import Recursive, config_option
from tcgn_mil.io.failures import describe_left_out
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.text import counted


def bulk(
    expression: Annotated[
        list[Path],
        typer.Argument(
            help="Expression: CSV, TSV (also .gz, .zip), Parquet, .h5ad, or a folder of GDC files."
        ),
    ],
    unit: Annotated[str, config_option(BulkConfig, "unit")],
    slides: Annotated[
        Path,
        typer.Option(
            help="Slides: one file, a folder, or a table with slide_id, patient_id and, if known,"
            " path."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="File to write. Reports of slides, samples and genes are written beside it.",
            dir_okay=False,
        ),
    ] = Path("cohort.h5ad"),
    layout: Annotated[str | None, config_option(BulkConfig, "format", "--format")] = None,
    gene_ids: Annotated[str | None, config_option(BulkConfig, "gene_ids")] = None,
    gene_map: Annotated[str | None, config_option(BulkConfig, "gene_map")] = None,
    layer: Annotated[str | None, config_option(BulkConfig, "layer")] = None,
    preparation: Annotated[str | None, config_option(BulkConfig, "preparation")] = None,
    clinical: Annotated[Path | None, config_option(BulkConfig, "clinical")] = None,
    recursive: Recursive = False,
) -> None:
    """Join expression to slides by patient.

    Writes cohort.h5ad (patients by genes), join_report.csv and gene_report.csv.
    """
    from tcgn_mil.preprocessing.bulk.run import write_cohort
    from tcgn_mil.preprocessing.slides.names import search_listed_slides

    given = {
        "unit": unit,
        "format": layout,
        "gene_ids": gene_ids,
        "gene_map": gene_map,
        "layer": layer,
        "preparation": preparation,
        "clinical": clinical,
    }
    config = resolve(BulkConfig, given)
    entries, left_out = search_listed_slides(slides, recursive=recursive)
    summary = write_cohort(expression, entries, out, config, files_left_out=left_out)
    for note in summary.notes:
        typer.echo(note, err=True)
    typer.echo(str(summary))
    if summary.failures:
        listed = out.with_name("failures.csv")
        unread = counted(len(summary.failures), "file")
        typer.echo(f"{unread} left out, listed in {listed}", err=True)
        raise typer.Exit(1)


def clinical(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Clinical tables: CSV, TSV (also .gz, .zip) or .xlsx. Where several tables have an"
            " outcome of a patient, the first one counts."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="File to write. A figure, dropped_patients.csv and agreement.csv are written"
            " beside it.",
            dir_okay=False,
        ),
    ] = Path("clinical.csv"),
    layout: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Layout: auto, tcga-cdr, gdc (of tcgn-mil download), gdc-portal, cbioportal, xena,"
            " porpoise, survpath, columns or covariates. Give it once, or once for each file.",
            show_default="auto",
        ),
    ] = None,
    endpoint: Annotated[list[str] | None, config_option(ClinicalOptions, "endpoints")] = None,
    covariate: Annotated[list[str] | None, config_option(ClinicalOptions, "covariates")] = None,
    patient_column: Annotated[str | None, config_option(ClinicalOptions, "patient")] = None,
    time_column: Annotated[list[str] | None, config_option(ClinicalOptions, "times")] = None,
    censored_time_column: Annotated[
        list[str] | None, config_option(ClinicalOptions, "censored_times")
    ] = None,
    event_column: Annotated[list[str] | None, config_option(ClinicalOptions, "events")] = None,
    entry_column: Annotated[str | None, config_option(ClinicalOptions, "entry")] = None,
    time_unit: Annotated[str | None, config_option(ClinicalOptions, "time_unit")] = None,
    event_coding: Annotated[str | None, config_option(ClinicalOptions, "event_coding")] = None,
    event_values: Annotated[str | None, config_option(ClinicalOptions, "event_values")] = None,
    months: Annotated[float | None, config_option(ClinicalOptions, "month_days")] = None,
    sheet: Annotated[str | None, config_option(ClinicalOptions, "sheet")] = None,
    slides: Annotated[
        Path | None,
        typer.Option(
            help="Slides of the cohort, as for bulk: their patients alone are kept, so that a table"
            " of many cohorts gives a file about this one."
        ),
    ] = None,
    recursive: Recursive = False,
    allow_unusual: Annotated[
        bool,
        typer.Option(
            help="Write the table although its values speak against the declared unit or coding."
        ),
    ] = False,
) -> None:
    """Read survival in days, and covariates, with one row per patient.

    Checks units and codings, and compares the tables with one another.
    """
    from tcgn_mil.preprocessing.clinical.run import write_clinical

    given = {
        "patient": patient_column,
        "times": time_column,
        "censored_times": censored_time_column,
        "events": event_column,
        "entry": entry_column,
        "time_unit": time_unit,
        "event_coding": event_coding,
        "event_values": event_values.split(",") if event_values else None,
        "month_days": months,
        "endpoints": endpoint,
        "covariates": covariate,
        "sheet": sheet,
    }
    options = resolve(ClinicalOptions, given)
    patients = None
    if slides is not None:
        from tcgn_mil.preprocessing.slides.names import search_listed_slides

        entries, left_out = search_listed_slides(slides, recursive=recursive)
        patients = dict.fromkeys(entry.patient_id for entry in entries)
        for sentence in describe_left_out(left_out):
            typer.echo(sentence, err=True)
    summary = write_clinical(
        files,
        out,
        options,
        layouts=layout or ["auto"],
        allow_unusual=allow_unusual,
        patients=patients,
    )
    for note in summary.notes:
        typer.echo(note)
    for warning in summary.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if summary.agreement:
        print_rows(list(summary.agreement))
    if summary.dropped:
        listed = out.parent / "dropped_patients.csv"
        typer.echo(f"{summary.dropped} outcomes or values listed in {listed}", err=True)
    typer.echo(f"{summary.patients} patients: {out}")
