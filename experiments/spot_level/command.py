"""From sections to a spot encoder: ``spots``, ``pretrain``, ``spot-cv``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import (
    compare_and_print,
    finish_cohort,
    print_config,
    print_rows,
    resolve,
    warn_of_leakage,
)
from tcgn_mil.experiments.command_line.options import (
    Config,
    MissingGenes,
    Out,
    Overrides,
    PatchMpp,
    PatchPx,
    ShowConfig,
    SpotsDir,
)
from tcgn_mil.types.tiles import DEFAULT_PATCH_MPP, DEFAULT_PATCH_PX, PatchSize


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
    from tcgn_mil.preprocessing.sections.run import write_spots

    done, failures, notes = write_spots(
        source,
        out,
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
    )
    for note in notes:
        typer.echo(note, err=True)
    finish_cohort(len(done), failures, out, what="sections read", unit="section")


def pretrain(
    spots_dir: SpotsDir = None,
    out: Out = Path("encoder"),
    val_section: Annotated[
        list[str] | None, typer.Option(help="Section for early stopping; repeatable.")
    ] = None,
    test_section: Annotated[
        list[str] | None, typer.Option(help="Section read once, at the end; repeatable.")
    ] = None,
    missing_genes: MissingGenes = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Train the spot encoder on sections; writes encoder.safetensors and the per-gene results on test sections."""
    from tcgn_mil.experiments.spot_level import pretrain as pretraining
    from tcgn_mil.experiments.spot_level.config import SpotConfig

    given = {
        "spots": spots_dir,
        "val_sections": val_section,
        "test_sections": test_section,
        "panel.missing": missing_genes,
    }
    resolved = resolve(SpotConfig, config, overrides, given)
    if show_config:
        return print_config(resolved)
    summary = pretraining.run(resolved, out)
    if summary["results"]:
        print_rows(summary["results"])
    warn_of_leakage(summary)
    typer.echo(f"encoder: {out / 'encoder.safetensors'}")
    return None


def spot_cross_validation(
    spots_dir: SpotsDir = None,
    out: Out = Path("spot-cv"),
    group_by: Annotated[
        str | None,
        typer.Option(
            help="What is tested together: patient, or section (patient leakage, labelled)."
        ),
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="CSV with fold, part (train, val, test), id (section or patient)."),
    ] = None,
    missing_genes: MissingGenes = None,
    preset: Annotated[
        str | None, typer.Option(help="published: the TCGN paper's protocol, labelled.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="own, or hest: frozen features, PCA to 256, ridge, 50 variable genes.",
            show_default="own",
        ),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two finished runs to put side by side, gene by gene, in --out."),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Cross-validate the spot network beside its baselines; or put two such runs side by side."""
    if compare is not None:
        from tcgn_mil.experiments.spot_level.compare_runs import compare_runs

        others = (
            spots_dir,
            group_by,
            folds,
            missing_genes,
            preset,
            protocol,
            config,
            overrides,
            show_config,
        )
        compare_and_print(compare_runs, compare, out, others)
        return None
    from tcgn_mil.experiments.spot_level import cross_validate as spot_cv
    from tcgn_mil.experiments.spot_level import hest_protocol
    from tcgn_mil.experiments.spot_level.config import SpotConfig, preset_values

    given = {
        "spots": spots_dir,
        "group_by": group_by,
        "folds": folds,
        "panel.missing": missing_genes,
        "protocol": protocol,
    }
    resolved = resolve(SpotConfig, config, overrides, given, preset=preset_values(preset))
    if show_config:
        return print_config(resolved)
    summary = (hest_protocol if resolved.protocol == "hest" else spot_cv).run(resolved, out)
    print_rows(summary["results"])
    for label in summary["labels"]:
        typer.echo(label, err=True)
    typer.echo(f"{summary['sentence']}\n{out}")
    return None
