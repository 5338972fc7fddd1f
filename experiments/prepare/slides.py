"""The verbs ``tile`` and ``export-tiles``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.console import (
    finish_cohort,
    keep_cohort,
    report_left_out,
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
from tcgn_mil.io.failures import LeftOut, read_failures, until_settled
from tcgn_mil.io.geojson import BOUNDS, read_record
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.text import counted, preview
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
        out,
        slides,
        names,
        lambda name: tile_files(out, name),
        choice="recursive" if recursive else "",
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


def _tile_size(encoder: str | None, px: int | None, mpp: float | None) -> PatchSize:
    """Return the size of the tiles: that of an encoder, or the one that is given."""
    if encoder is None:
        # 0 is refused by PatchSize and does not stand for the default.
        return PatchSize(
            DEFAULT_PATCH_PX if px is None else px, DEFAULT_PATCH_MPP if mpp is None else mpp
        )
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
