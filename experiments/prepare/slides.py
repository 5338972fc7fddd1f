"""From slides to features: ``tile``, ``encode``, ``export-tiles``, ``import-features``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.console import finish_cohort
from tcgn_mil.experiments.command_line.options import Out, PatchMpp, PatchPx, SlideMpp, Slides
from tcgn_mil.types.tile_geometry import DEFAULT_PATCH_MPP, DEFAULT_PATCH_PX, PatchSize


def tile(
    slides: Slides,
    out: Out = Path("tiles"),
    mpp: SlideMpp = None,
    patch_px: PatchPx = DEFAULT_PATCH_PX,
    patch_mpp: PatchMpp = DEFAULT_PATCH_MPP,
    stride_px: Annotated[
        int | None,
        typer.Option(help="Step of the grid in stored pixels; the tile's side by default."),
    ] = None,
    min_tissue: Annotated[
        float | None,
        typer.Option(help="Least tissue share of a kept tile, 0 to 1; 0.1 by default."),
    ] = None,
    max_blur: Annotated[
        float | None,
        typer.Option(help="Largest share of a tile out of focus; 0.25 by default, 1 keeps all."),
    ] = None,
    max_pen: Annotated[
        float | None,
        typer.Option(help="Largest share of a tile under ink; 0.25 by default, 1 keeps all."),
    ] = None,
    max_fold: Annotated[
        float | None,
        typer.Option(help="Largest share of a tile under folds; 0.35 by default, 1 keeps all."),
    ] = None,
    stain: Annotated[
        str | None,
        typer.Option(
            help="Normalise stains when tiles are read: macenko or reinhard.", show_default="none"
        ),
    ] = None,
    stain_reference: Annotated[
        Path | None,
        typer.Option(help="Image of typical tissue to normalise to; macenko can do without."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes, each with a slide at a time.")] = 1,
) -> None:
    """Find tissue and lay a grid in µm; writes tiles/<slide>.h5 with an overlay picture, and contact_sheet.html."""
    from tcgn_mil.preprocessing.slides.table import find_slides
    from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
    from tcgn_mil.preprocessing.tiles.contact_sheet import write_contact_sheet
    from tcgn_mil.preprocessing.tiles.settings import TileSettings
    from tcgn_mil.preprocessing.tiles.stain import stain_target

    if stain is None and stain_reference is not None:
        raise InputError(
            "--stain-reference without --stain", fix="give --stain macenko or --stain reinhard too"
        )
    entries = find_slides(slides, mpp=mpp)
    limits = {
        "min_tissue": min_tissue,
        "max_blur": max_blur,
        "max_pen": max_pen,
        "max_fold": max_fold,
    }
    chosen = {name: value for name, value in limits.items() if value is not None}
    target = None if stain is None else stain_target(stain, stain_reference)
    settings = TileSettings(
        patch=PatchSize(patch_px, patch_mpp), stride_px=stride_px, stain=target, **chosen
    )
    done, failures = tile_cohort(entries, settings, out, workers=workers)
    sheet = write_contact_sheet(out, failures)
    typer.echo(f"to look at: {sheet}")
    finish_cohort(len(done), failures, out, what="slides tiled")


def export_tiles(
    tiles: Annotated[
        Path, typer.Argument(help="Folder of tile files: ours, or with --slides other tools' too.")
    ],
    layout: Annotated[
        str, typer.Option("--format", help="Layout to write: clam, trident, hest or geojson.")
    ],
    out: Out = Path("exported-tiles"),
    slides: Annotated[
        Path | None,
        typer.Option(
            help="The slides, as to tile: needed for hest, which holds pixels, and for other tools' files."
        ),
    ] = None,
    mpp: SlideMpp = None,
) -> None:
    """Write tile files for CLAM, TRIDENT or HEST tools, or tile grids as GeoJSON for QuPath."""
    from tcgn_mil.preprocessing.interop.tile_writers import export_cohort
    from tcgn_mil.preprocessing.slides.table import find_slides

    entries = None if slides is None else find_slides(slides, mpp=mpp)
    done, failures = export_cohort(tiles, layout, out, entries)
    finish_cohort(len(done), failures, out, what="slides exported")


def import_features(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of features: CLAM's (h5_files, pt_files), TRIDENT's (features_*) or STAMP's; or a table, .csv"
            " or .tsv, with a slide and its features a row."
        ),
    ],
    encoder: Annotated[
        str | None,
        typer.Option(help="Encoder's name.", show_default="as the file states; CLAM's do not"),
    ] = None,
    out: Out = Path("features"),
    patch_px: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile in pixels, as it was cut.", show_default="as the file states"
        ),
    ] = None,
    patch_mpp: Annotated[
        float | None,
        typer.Option(
            help="µm per pixel of a tile.", show_default="by the file and the slide's mpp"
        ),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option(
            help="CSV or TSV with slide_id, patient_id[, mpp of level 0].",
            show_default="TCGA names, else the slide",
        ),
    ] = None,
    mpp: SlideMpp = None,
) -> None:
    """Convert features of CLAM, TRIDENT or STAMP, or a table; writes features/<slide>.h5 for finetune and predict."""
    from tcgn_mil.preprocessing.features.feature_table import import_table
    from tcgn_mil.preprocessing.features.import_features import (
        ImportSettings,
        find_sources,
        import_cohort,
    )
    from tcgn_mil.preprocessing.features.readers.table import is_feature_table
    from tcgn_mil.preprocessing.slides.names import slide_facts
    from tcgn_mil.types.features import LEVEL0

    facts_of = slide_facts(patients, mpp=mpp)
    if is_feature_table(source):
        done, failures = import_table(source, facts_of, encoder, out)
    else:
        settings = ImportSettings(encoder, patch_px, patch_mpp)
        done, failures = import_cohort(find_sources(source), facts_of, settings, out)
    if unplaced := sum(info.positions != LEVEL0 for info in done):
        typer.echo(
            f"{unplaced} slides without level-0 positions (no coords, or µm without the slide's --mpp): they train and"
            " predict, without maps",
            err=True,
        )
    finish_cohort(len(done), failures, out, what="slides imported")
