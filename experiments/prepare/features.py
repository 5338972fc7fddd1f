"""The verb ``import-features``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.console import (
    finish_cohort,
    report_left_out,
    resolve,
)
from tcgn_mil.experiments.command_line.options import (
    Out,
    Recursive,
    SlideMpp,
    config_option,
)
from tcgn_mil.io.failures import Failure
from tcgn_mil.preprocessing.features.settings import ImportSettings, TableSettings
from tcgn_mil.text import preview
from tcgn_mil.types.features import LEVEL0, FeatureInfo


def import_features(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Folder of features of CLAM (h5_files, pt_files), TRIDENT (features_*,"
            " slide_features_*) or STAMP (tiles, slides or patients); or tables (.csv, .tsv, also"
            " .gz or .zip, .parquet) with a slide and its features in each row, for example one"
            " table of each cohort.",
        ),
    ],
    encoder: Annotated[str | None, config_option(ImportSettings, "encoder")] = None,
    out: Out = Path("features"),
    patch_px: Annotated[int | None, config_option(ImportSettings, "patch_px")] = None,
    patch_mpp: Annotated[float | None, config_option(ImportSettings, "patch_mpp")] = None,
    patients: Annotated[
        Path | None,
        typer.Option(
            help="CSV or TSV file with the columns slide_id, patient_id and, if known, mpp of"
            " level 0.",
            show_default="patients of the table or of TCGA names, else each slide its own",
        ),
    ] = None,
    mpp: SlideMpp = None,
    recursive: Recursive = False,
    slide_column: Annotated[str | None, config_option(TableSettings, "slide_column")] = None,
    patient_column: Annotated[str | None, config_option(TableSettings, "patient_column")] = None,
    leave_out: Annotated[list[str] | None, config_option(TableSettings, "leave_out")] = None,
) -> None:
    """Convert features of CLAM, TRIDENT or STAMP, or of tables, for finetune and predict.

    Writes <out>/<slide>.h5. Of slide vectors and tables also slides.csv, and of tables columns.csv
    (role of each column).
    """
    from tcgn_mil.preprocessing.features.readers.table import is_feature_table

    of_tables: dict[str, Any] = {
        "--slide-column": slide_column,
        "--patient-column": patient_column,
        "--leave-out": leave_out,
    }
    of_tiles: dict[str, Any] = {"--patch-px": patch_px, "--patch-mpp": patch_mpp, "--mpp": mpp}
    if all(map(is_feature_table, sources)):
        _refuse_options(of_tiles, "a table, which holds no tiles")
        if patients is not None and patient_column is not None:
            raise InputError(
                "--patients and --patient-column both say which patient a slide is of",
                fix="remove one of the two options",
            )
        columns = {
            "slide_column": slide_column,
            "patient_column": patient_column,
            "leave_out": leave_out,
        }
        _import_tables(sources, encoder, out, patients, resolve(TableSettings, columns))
        return
    if len(sources) > 1:
        raise InputError(
            "several sources are given, which only tables can be",
            fix="import each folder of features by itself",
        )
    _refuse_options(of_tables, "a folder of features")
    given = {"encoder": encoder, "patch_px": patch_px, "patch_mpp": patch_mpp}
    settings = resolve(ImportSettings, given)
    _import_folder(sources[0], settings, out, patients, mpp, of_tiles, recursive=recursive)


def _refuse_options(options: Mapping[str, Any], source: str) -> None:
    """Refuse options that have no effect on a kind of source."""
    if given := [name for name, value in options.items() if value is not None]:
        raise InputError(
            f"{preview(given)}: has no effect on {source}", fix=f"remove {preview(given)}"
        )


def _import_tables(
    tables: Sequence[Path],
    encoder: str | None,
    out: Path,
    patients: Path | None,
    settings: TableSettings,
) -> None:
    from tcgn_mil.preprocessing.features.feature_table import import_tables
    from tcgn_mil.preprocessing.slides.names import slide_facts

    facts_of = None if patients is None else slide_facts(patients)
    done: list[FeatureInfo] = []
    failures: list[Failure] = []
    results = import_tables(tables, encoder, out, settings=settings, facts_of=facts_of)
    for table, result in zip(tables, results, strict=True):
        for note in result.notes:
            typer.echo(f"{table.name}: {note}", err=True)
        done += result.done
        failures += result.failures
    _finish_import(done, failures, out)


def _import_folder(
    source: Path,
    settings: ImportSettings,
    out: Path,
    patients: Path | None,
    mpp: float | None,
    of_tiles: Mapping[str, Any],
    *,
    recursive: bool,
) -> None:
    from tcgn_mil.preprocessing.features.encoder_names import describe_field
    from tcgn_mil.preprocessing.features.import_features import import_cohort
    from tcgn_mil.preprocessing.features.search import search_features
    from tcgn_mil.preprocessing.features.source_check import level_of
    from tcgn_mil.preprocessing.slides.names import slide_facts

    wants_tiles = any(value is not None for value in of_tiles.values())
    found, left_out = search_features(source, recursive=recursive, of_tiles=wants_tiles)
    if level_of(found) in ("slide", "patient"):
        _refuse_options(of_tiles, "vectors of slides, which have no tiles")
    facts = slide_facts(patients, mpp=mpp)
    done, failures = import_cohort(
        found, facts, settings, out, source=source, choice="recursive" if recursive else ""
    )
    report_left_out(left_out, out)
    if done and (note := describe_field(done[0])):
        typer.echo(f"note: {note}", err=True)
    _finish_import(done, failures, out)


def _finish_import(done: Sequence[FeatureInfo], failures: Sequence[Failure], out: Path) -> None:
    if unplaced := sum(info.positions != LEVEL0 for info in done):
        typer.echo(
            f"slides without positions in level-0 pixels: {unplaced} (no coordinates, or µm without"
            " the slide's --mpp). They train and predict, but without maps",
            err=True,
        )
    finish_cohort(len(done), failures, out, what="imported")
