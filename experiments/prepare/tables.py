"""From tables to a cohort: ``bulk``, ``clinical``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import print_rows


def bulk(
    expression: Annotated[
        list[Path],
        typer.Argument(
            help="Expression: CSV, TSV (also .gz, .zip), Parquet, .h5ad, or a folder of GDC files."
        ),
    ],
    unit: Annotated[
        str,
        typer.Option(
            help="Unit of the values: tpm, tpm-subset, fpkm, fpkm-uq, counts, log2(tpm+1) etc., zscore."
        ),
    ],
    slides: Annotated[
        Path,
        typer.Option(
            help="The slides: one file, a folder, or a table with slide_id, patient_id and, if known, path."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="File to write; reports of slides, samples, genes beside it.",
            dir_okay=False,
        ),
    ] = Path("cohort.h5ad"),
    layout: Annotated[
        str,
        typer.Option(
            "--format",
            help="auto, wide, samples-by-genes, genes-by-samples, sequoia, porpoise, isb-cgc, gdc or h5ad.",
        ),
    ] = "auto",
    gene_ids: Annotated[
        str, typer.Option(help="Name genes by symbol or by ensembl id.")
    ] = "symbol",
    gene_map: Annotated[
        Path | None,
        typer.Option(
            help="Table of id and gene (a Xena probe map) to name genes.", show_default=False
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of an .h5ad, instead of X.", show_default=False)
    ] = None,
    preparation: Annotated[
        str, typer.Option(help="Slides to join, by TCGA name: any, diagnostic or frozen.")
    ] = "any",
    clinical: Annotated[
        Path | None,
        typer.Option(
            help="clinical.csv, to count the joined patients' events.", show_default=False
        ),
    ] = None,
) -> None:
    """Join expression to slides by patient; writes cohort.h5ad (patients x genes), join_report.csv, gene_report.csv."""
    from tcgn_mil.preprocessing.bulk.run import BulkConfig, write_cohort
    from tcgn_mil.preprocessing.slides.names import list_slides

    summary = write_cohort(
        expression,
        list_slides(slides),
        out,
        BulkConfig(
            unit=unit,
            format=layout,
            gene_ids=gene_ids,
            gene_map=gene_map,
            layer=layer,
            preparation=preparation,
            clinical=clinical,
        ),
    )
    for note in summary.notes:
        typer.echo(note, err=True)
    typer.echo(str(summary))
    if summary.failures:
        typer.echo(
            f"{len(summary.failures)} files left out, listed in {out.with_name('failures.csv')}",
            err=True,
        )
        raise typer.Exit(1)


def clinical(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Clinical table(s): CSV, TSV (also .gz, .zip), .xlsx. The first file wins."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="File to write; a figure, dropped_patients.csv, agreement.csv beside it.",
            dir_okay=False,
        ),
    ] = Path("clinical.csv"),
    layout: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="auto, tcga-cdr, xena, porpoise, survpath, columns or covariates; once, or once a file.",
            show_default="auto",
        ),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="Endpoint wanted (OS, DSS, DFI, PFI), or the name of that in --time-column."
        ),
    ] = None,
    covariate: Annotated[
        list[str] | None, typer.Option(help="Column to keep as given; may be repeated.")
    ] = None,
    patient_column: Annotated[
        str | None, typer.Option(help="Column of patients or samples.")
    ] = None,
    time_column: Annotated[
        list[str] | None, typer.Option(help="Column of times; once an --endpoint.")
    ] = None,
    event_column: Annotated[
        list[str] | None, typer.Option(help="Column of events; once an --endpoint.")
    ] = None,
    entry_column: Annotated[
        str | None,
        typer.Option(help="Column of the time when observation began (left truncation)."),
    ] = None,
    time_unit: Annotated[
        str | None, typer.Option(help="Unit of --time-column: days, months or years.")
    ] = None,
    event_coding: Annotated[
        str | None, typer.Option(help="What 1 means in --event-column: event or censored.")
    ] = None,
    event_values: Annotated[
        str | None,
        typer.Option(help="Text that means an event, e.g. dead,deceased; other text means none."),
    ] = None,
    months: Annotated[
        float | None, typer.Option(help="Days in a month: 30.44 (PORPOISE) or 30 (SurvPath).")
    ] = None,
    sheet: Annotated[str, typer.Option(help="Sheet of a workbook.")] = "TCGA-CDR",
    allow_unusual: Annotated[
        bool, typer.Option(help="Write in spite of what speaks against a declared unit or coding.")
    ] = False,
) -> None:
    """Read survival in days, and covariates, one row a patient; checks units, codings, and sources on each other."""
    from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
    from tcgn_mil.preprocessing.clinical.run import write_clinical

    options = ClinicalOptions(
        patient=patient_column,
        times=tuple(time_column or ()),
        events=tuple(event_column or ()),
        entry=entry_column,
        time_unit=time_unit,
        event_coding=event_coding,
        event_values=tuple(event_values.split(",")) if event_values else (),
        month_days=months,
        endpoints=tuple(endpoint or ()),
        covariates=tuple(covariate or ()),
        sheet=sheet,
    )
    summary = write_clinical(
        files, out, options, layouts=layout or ["auto"], allow_unusual=allow_unusual
    )
    for note in summary.notes:
        typer.echo(note)
    for warning in summary.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if summary.agreement:
        print_rows(list(summary.agreement))
    if summary.dropped:
        typer.echo(
            f"{summary.dropped} outcomes or values listed in {out.parent / 'dropped_patients.csv'}",
            err=True,
        )
    typer.echo(f"{summary.patients} patients: {out}")
