"""From sections to a spot encoder: ``spots``, ``pretrain``, ``spot-cv``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import (
    compare_and_print,
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
    ShowConfig,
    SpotsDir,
)


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
    resolved = resolve(SpotConfig, given, path=config, overrides=overrides)
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
    resolved = resolve(SpotConfig, given, path=config, overrides=overrides, preset=preset_values(preset))
    if show_config:
        return print_config(resolved)
    summary = (hest_protocol if resolved.protocol == "hest" else spot_cv).run(resolved, out)
    print_rows(summary["results"])
    for label in summary["labels"]:
        typer.echo(label, err=True)
    typer.echo(f"{summary['sentence']}\n{out}")
    return None
