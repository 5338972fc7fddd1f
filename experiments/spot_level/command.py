"""The verbs ``tcgn-mil pretrain`` and ``tcgn-mil spot-cv``."""

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
from tcgn_mil.experiments.command_line.early import Needed, check_encoder, check_inputs
from tcgn_mil.experiments.command_line.options import (
    Config,
    Out,
    Overrides,
    ShowConfig,
    config_option,
)
from tcgn_mil.experiments.spot_level.config import SpotConfig, preset_values


def pretrain(
    spots_dir: Annotated[Path | None, config_option(SpotConfig, "spots", "--spots")] = None,
    out: Out = Path("encoder"),
    val_section: Annotated[list[str] | None, config_option(SpotConfig, "val_sections")] = None,
    test_section: Annotated[list[str] | None, config_option(SpotConfig, "test_sections")] = None,
    missing_genes: Annotated[str | None, config_option(SpotConfig, "panel.missing")] = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Train the spot encoder on sections and test it once; writes encoder.safetensors.

    Several processes of torchrun share the training.
    """
    given = {
        "spots": spots_dir,
        "val_sections": val_section,
        "test_sections": test_section,
        "panel.missing": missing_genes,
    }
    resolved = resolve(SpotConfig, given, path=config, overrides=overrides)
    if show_config:
        return print_config(resolved)
    _check_inputs(resolved)
    from tcgn_mil.experiments.spot_level import pretrain as pretraining

    summary = pretraining.run(resolved, out)
    if summary["results"]:
        print_rows(summary["results"])
        if summary["results_on"] == "validation":
            typer.echo(
                "These are validation sections: the epoch was chosen on them, so that the values"
                " are too good. Name sections that were not seen with --test-section.",
                err=True,
            )
    warn_of_leakage(summary)
    typer.echo(f"encoder: {out / 'encoder.safetensors'}")
    return None


def spot_cross_validation(
    spots_dir: Annotated[Path | None, config_option(SpotConfig, "spots", "--spots")] = None,
    out: Out = Path("spot-cv"),
    group_by: Annotated[str | None, config_option(SpotConfig, "group_by")] = None,
    folds: Annotated[Path | None, config_option(SpotConfig, "folds")] = None,
    missing_genes: Annotated[str | None, config_option(SpotConfig, "panel.missing")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings to start from: published, the protocol of the TCGN paper. Its results"
            " are labelled.",
            show_default=False,
        ),
    ] = None,
    protocol: Annotated[str | None, config_option(SpotConfig, "protocol")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            help="Compare two finished runs of spot-cv gene by gene instead of training; the"
            " comparison is written to --out.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Cross-validate the spot network and its baselines, or compare two such runs.

    Several processes of torchrun share the training.
    """
    given = {
        "spots": spots_dir,
        "group_by": group_by,
        "folds": folds,
        "panel.missing": missing_genes,
        "protocol": protocol,
    }
    if compare is not None:
        from tcgn_mil.experiments.spot_level.compare_runs import compare_runs

        others = (*given.values(), preset, config, overrides, show_config)
        compare_and_print(compare_runs, compare, out, others)
        return None
    resolved = resolve(
        SpotConfig, given, path=config, overrides=overrides, preset=preset_values(preset)
    )
    if show_config:
        return print_config(resolved)
    _check_inputs(resolved)
    # Modules that import torch are imported here, so that --help and wrong options are quick.
    from tcgn_mil.experiments.spot_level import cross_validate, hest_protocol

    chosen = hest_protocol if resolved.protocol == "hest" else cross_validate
    summary = chosen.run(resolved, out)
    print_rows(summary["results"])
    for label in summary["labels"]:
        typer.echo(label, err=True)
    typer.echo(f"{summary['sentence']}\n{out}")
    return None


def _check_inputs(config: SpotConfig) -> None:
    """Refuse paths that do not exist, before torch is loaded."""
    check_inputs(
        Needed(config.spots, "--spots", "spots"),
        Needed(config.folds, "--folds"),
        Needed(config.panel.own_file, "--set panel.file"),
        Needed(config.checkpoint, "--set checkpoint"),
        Needed(config.trunk, "--set trunk"),
    )
    check_encoder(config.model, "--set model", model=config.encoder_options.model)
