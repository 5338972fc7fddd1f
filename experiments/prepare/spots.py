"""The verb ``spots``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.experiments.command_line.console import finish_cohort
from tcgn_mil.experiments.command_line.options import Out, PatchMpp, PatchPx, config_option
from tcgn_mil.preprocessing.sections.config import SpotsConfig
from tcgn_mil.types.tile_geometry import DEFAULT_PATCH_MPP, DEFAULT_PATCH_PX, PatchSize


def spots(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder or file of sections, or a table with the column path and, if known,"
            " section, patient_id, image, format, mpp, override_mpp and spot_pitch_um."
        ),
    ],
    out: Out = Path("spots"),
    layout: Annotated[str | None, config_option(SpotsConfig, "format", "--format")] = None,
    section: Annotated[list[str] | None, config_option(SpotsConfig, "sections")] = None,
    image: Annotated[Path | None, config_option(SpotsConfig, "image")] = None,
    patch_px: PatchPx = DEFAULT_PATCH_PX,
    patch_mpp: PatchMpp = DEFAULT_PATCH_MPP,
    spot_pitch_um: Annotated[float | None, config_option(SpotsConfig, "spot_pitch_um")] = None,
    mpp: Annotated[float | None, config_option(SpotsConfig, "mpp")] = None,
    override_mpp: Annotated[bool, config_option(SpotsConfig, "override_mpp")] = False,
    pool_um: Annotated[float | None, config_option(SpotsConfig, "pool_um")] = None,
    pool_from: Annotated[str | None, config_option(SpotsConfig, "pool_from")] = None,
    gene_ids: Annotated[str | None, config_option(SpotsConfig, "gene_ids")] = None,
    allow_coarse: Annotated[bool, config_option(SpotsConfig, "allow_coarse")] = False,
    slides_out: Annotated[Path | None, config_option(SpotsConfig, "slides_out")] = None,
    pseudobulk_by: Annotated[str | None, config_option(SpotsConfig, "pseudobulk_by")] = None,
) -> None:
    """Read sections of spatial transcriptomics.

    Writes raw counts, patches and a picture of the alignment for each section.
    """
    from tcgn_mil.preprocessing.sections.run import write_spots

    given: dict[str, Any] = {
        "format": layout,
        "sections": tuple(section) if section else None,
        "image": image,
        "spot_pitch_um": spot_pitch_um,
        "mpp": mpp,
        "pool_um": pool_um,
        "pool_from": pool_from,
        "gene_ids": gene_ids,
        "slides_out": slides_out,
        "pseudobulk_by": pseudobulk_by,
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    patch = PatchSize(patch_px, patch_mpp)
    config = SpotsConfig(
        patch=patch, override_mpp=override_mpp, allow_coarse=allow_coarse, **chosen
    )
    done, failures, notes = write_spots(source, out, config)
    for note in notes:
        typer.echo(note, err=True)
    finish_cohort(len(done), failures, out, what="read", unit="section")
