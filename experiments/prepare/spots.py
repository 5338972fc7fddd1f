"""From sections to a spot encoder: ``spots``, ``pretrain``, ``spot-cv``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import finish_cohort
from tcgn_mil.experiments.command_line.options import Out, PatchMpp, PatchPx
from tcgn_mil.types.tile_geometry import DEFAULT_PATCH_MPP, DEFAULT_PATCH_PX, PatchSize


def spots(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder or file of ST sections, or a table with path[, section, patient_id, image]."
        ),
    ],
    out: Out = Path("spots"),
    layout: Annotated[
        str,
        typer.Option("--format", help="Layout of the source: auto, her2st, visium, h5ad or hest."),
    ] = "auto",
    section: Annotated[
        list[str] | None, typer.Option(help="Only this section; may be repeated.")
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="Full-resolution image of the section (Visium).", show_default=False),
    ] = None,
    patch_px: PatchPx = DEFAULT_PATCH_PX,
    patch_mpp: PatchMpp = DEFAULT_PATCH_MPP,
    spot_pitch_um: Annotated[
        float | None,
        typer.Option(
            help="Distance of neighbouring spots in µm.",
            show_default="100 for Visium, 200 for her2st",
        ),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(
            help="µm per pixel of the images, instead of measuring it from the spots.",
            show_default=False,
        ),
    ] = None,
    gene_ids: Annotated[
        str, typer.Option(help="Name genes by symbol or by ensembl id.")
    ] = "symbol",
    allow_coarse: Annotated[
        bool,
        typer.Option(
            help="Write patches of an image too coarse for them, enlarged past the bound."
        ),
    ] = False,
    slides_out: Annotated[
        Path | None,
        typer.Option(
            help="Also write each section as a pyramidal TIFF slide with its summed counts, here."
        ),
    ] = None,
    pseudobulk_by: Annotated[
        str,
        typer.Option(
            help="With --slides-out: counts summed, and slides joined, by section or by patient."
        ),
    ] = "section",
) -> None:
    """Read spatial transcriptomics into one SpotSet a section: raw counts, patches and an alignment picture."""
    from tcgn_mil.preprocessing.sections.run import SpotsConfig, write_spots

    done, failures, notes = write_spots(
        source,
        out,
        SpotsConfig(
            format=layout,
            sections=section,
            image=image,
            patch=PatchSize(patch_px, patch_mpp),
            spot_pitch_um=spot_pitch_um,
            mpp=mpp,
            gene_ids=gene_ids,
            allow_coarse=allow_coarse,
            slides_out=slides_out,
            pseudobulk_by=pseudobulk_by,
        ),
    )
    for note in notes:
        typer.echo(note, err=True)
    finish_cohort(len(done), failures, out, what="sections read", unit="section")
