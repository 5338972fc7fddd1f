"""The verb ``export-spatialdata``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import finish_cohort, report_left_out
from tcgn_mil.experiments.command_line.options import Out, OverrideMpp, Recursive, SlideMpp


def export_spatialdata(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders that tcgn-mil spots, tile, predict (with maps) or spot-cv wrote, or files"
            " in them. What they hold for one slide comes into one store.",
        ),
    ],
    out: Out = Path("spatialdata"),
    slides: Annotated[
        Path | None,
        typer.Option(
            help="Slides, as given to tcgn-mil tile, whose image is written into the stores."
            " Without it a store has the thumbnail that the files have, if there is one."
        ),
    ] = None,
    image_mpp: Annotated[
        float, typer.Option(help="With --slides: µm per pixel of the image.", min=0.05, max=100)
    ] = 4.0,
    mpp: SlideMpp = None,
    override_mpp: OverrideMpp = False,
    recursive: Recursive = False,
) -> None:
    """Write spots, tiles, predictions and attention maps as SpatialData stores.

    Writes <out>/<slide>.zarr with shapes, tables and an image, as squidpy and napari-spatialdata
    open them. Needs the extra spatialdata.
    """
    from tcgn_mil.preprocessing.interop.spatial_export import export_spatialdata as export
    from tcgn_mil.preprocessing.slides.table import SlideSearch, search_slides

    found = SlideSearch([], [])
    if slides is not None:
        found = search_slides(slides, mpp=mpp, override_mpp=override_mpp, recursive=recursive)
    done, failures, left_out = export(sources, out, found.entries, image_mpp=image_mpp)
    report_left_out([*found.left_out, *left_out], out)
    finish_cohort(len(done), failures, out, what="exported")
