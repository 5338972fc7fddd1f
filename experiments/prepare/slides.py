"""The verbs ``tile``, ``export-tiles`` and ``import-features``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.console import (
    finish_cohort,
    keep_cohort,
    report_left_out,
    resolve,
)
from tcgn_mil.experiments.command_line.options import (
    AddressOption,
    EngineOption,
    Out,
    OverrideMpp,
    OwnPatchMpp,
    OwnPatchPx,
    Recursive,
    ShardOption,
    SlideMpp,
    Slides,
    config_option,
)
from tcgn_mil.experiments.prepare.encoders import tiles_of
from tcgn_mil.io.failures import Failure, LeftOut, read_failures, until_settled
from tcgn_mil.io.geojson import BOUNDS, read_record
from tcgn_mil.preprocessing.features.settings import ImportSettings, TableSettings
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.text import counted, preview
from tcgn_mil.types.features import LEVEL0, FeatureInfo
from tcgn_mil.types.shards import Shard
from tcgn_mil.types.tile_geometry import DEFAULT_PATCH_MPP, DEFAULT_PATCH_PX, PatchSize


def tile(
    slides: Slides,
    out: Out = Path("tiles"),
    mpp: SlideMpp = None,
    override_mpp: OverrideMpp = False,
    recursive: Recursive = False,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Lay tiles of the size that this encoder was trained on: a name of the registry"
            " such as uni2-h (tcgn-mil encoders lists them), or a checkpoint of tcgn-mil pretrain.",
            show_default=False,
        ),
    ] = None,
    patch_px: OwnPatchPx = None,
    patch_mpp: OwnPatchMpp = None,
    stride_px: Annotated[int | None, config_option(TileSettings, "stride_px")] = None,
    min_tissue: Annotated[float | None, config_option(TileSettings, "min_tissue")] = None,
    max_blur: Annotated[float | None, config_option(TileSettings, "max_blur")] = None,
    max_pen: Annotated[float | None, config_option(TileSettings, "max_pen")] = None,
    max_fold: Annotated[float | None, config_option(TileSettings, "max_fold")] = None,
    stain: Annotated[
        str | None,
        typer.Option(
            help="Normalise stains when tiles are read: macenko or reinhard (extra stain).",
            show_default="none",
        ),
    ] = None,
    stain_reference: Annotated[
        Path | None,
        typer.Option(
            help="Image of typical tissue whose stains are the reference. reinhard needs one;"
            " macenko has a published reference."
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of processes, each of which tiles one slide at a time.",
            show_default="1; with --engine ray, every free core",
        ),
    ] = None,
    shard: ShardOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
) -> None:
    """Find the tissue of slides and lay tiles on it.

    Writes <out>/<slide>.h5 with pictures of the slide and its tiles, and contact_sheet.html.
    """
    from tcgn_mil.experiments.engines.engine import RAY, choose_engine
    from tcgn_mil.preprocessing.slides.table import search_slides
    from tcgn_mil.preprocessing.tiles.cohort import check_workers, slide_notes, tile_cohort
    from tcgn_mil.preprocessing.tiles.contact_sheet import write_contact_sheet
    from tcgn_mil.preprocessing.tiles.stain import stain_target
    from tcgn_mil.preprocessing.tiles.tiling import tile_files

    if stain is None and stain_reference is not None:
        raise InputError(
            "--stain-reference is given without --stain",
            fix="give --stain macenko or --stain reinhard too",
        )
    limits: dict[str, Any] = {
        "stride_px": stride_px,
        "min_tissue": min_tissue,
        "max_blur": max_blur,
        "max_pen": max_pen,
        "max_fold": max_fold,
    }
    found = search_slides(slides, mpp=mpp, override_mpp=override_mpp, recursive=recursive)
    settings = TileSettings(
        patch=_tile_size(encoder, patch_px, patch_mpp),
        stain=None if stain is None else stain_target(stain, stain_reference),
        **{name: value for name, value in limits.items() if value is not None},
    )
    share = None if shard is None else Shard.parse(shard)
    devices = f"cpu:{workers}" if workers and engine == RAY else None
    cluster = choose_engine(engine, address, devices)
    processes = 1 if workers is None else workers
    check_workers(processes)
    names = [entry.slide_id for entry in found.entries]
    keep_cohort(
        out, slides, names, lambda name: tile_files(out, name), choice=_choice(recursive=recursive)
    )
    done, failures = tile_cohort(
        found.entries,
        settings,
        out,
        workers=processes,
        shard=share,
        run=cluster.run_tiling if cluster.name == RAY else None,
    )
    report_left_out(found.left_out, out)
    for note in slide_notes(done, out):
        typer.echo(note, err=True)
    sheet = until_settled(out, share, lambda: write_contact_sheet(out, read_failures(out)))
    if done:
        typer.echo(f"Look at the tiles in {sheet}")
    finish_cohort(len(done), failures, out, what="tiled")


def _choice(*, recursive: bool) -> str:
    """Return the name of the list of a folder's slides; with --recursive it is another one."""
    return "recursive" if recursive else ""


def _tile_size(encoder: str | None, px: int | None, mpp: float | None) -> PatchSize:
    """Return the size of the tiles: that of an encoder, or the one that is given."""
    if encoder is None:
        return PatchSize(px or DEFAULT_PATCH_PX, mpp or DEFAULT_PATCH_MPP)
    if px is not None or mpp is not None:
        raise InputError(
            "--encoder and --patch-px or --patch-mpp both say how large the tiles are",
            fix="remove --encoder, or the other two options",
        )
    return tiles_of(encoder)


def export_tiles(
    tiles: Annotated[
        Path,
        typer.Argument(
            help="Folder of tile files: those of tcgn-mil tile or, with --slides, of other tools."
        ),
    ],
    layout: Annotated[
        str, typer.Option("--format", help="Layout to write: clam, trident, hest or geojson.")
    ],
    out: Out = Path("exported-tiles"),
    slides: Annotated[
        Path | None,
        typer.Option(
            help="Slides, as given to tcgn-mil tile. They are needed for hest, which holds pixels,"
            " and for tile files of other tools."
        ),
    ] = None,
    mpp: SlideMpp = None,
    override_mpp: OverrideMpp = False,
    recursive: Recursive = False,
    origin: Annotated[
        str,
        typer.Option(
            help="With --format geojson: the point that is 0, 0. bounds is the corner of the"
            " scanned area, to which QuPath crops MIRAX, Leica and Ventana slides; slide is that of"
            " level 0, for viewers that do not crop."
        ),
    ] = BOUNDS,
) -> None:
    """Write tile files for CLAM, TRIDENT or HEST, or tile grids as GeoJSON for QuPath."""
    from tcgn_mil.preprocessing.interop.tile_writers import export_cohort
    from tcgn_mil.preprocessing.slides.table import search_slides

    entries, left_out = None, list[LeftOut]()
    if slides is not None:
        entries, left_out = search_slides(
            slides, mpp=mpp, override_mpp=override_mpp, recursive=recursive
        )
    done, failures = export_cohort(tiles, layout, out, entries, origin=origin)
    report_left_out(left_out, out)
    if layout == "geojson":
        _name_moved(done, out)
    finish_cohort(len(done), failures, out, what="exported")


def _name_moved(slides: Sequence[str], out: Path) -> None:
    """Name the slides whose GeoJSON begins at the corner of the scanned area."""
    corners = {name: read_record(out / f"{name}.geojson")["origin_level0_px"] for name in slides}
    if moved := [f"{name} ({x}, {y})" for name, (x, y) in corners.items() if x or y]:
        typer.echo(
            f"positions are given from the corner of the scanned area, as QuPath shows them, in"
            f" {counted(len(moved), 'slide')}: {preview(moved)}; --origin slide gives level-0"
            " pixels",
            err=True,
        )


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
        found, facts, settings, out, source=source, choice=_choice(recursive=recursive)
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
