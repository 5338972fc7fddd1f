"""The verbs ``tcgn-mil finetune`` and ``tcgn-mil slide-cv``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.errors import InputError
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
    EncoderArgument,
    EncoderModel,
    EncoderPooling,
    Out,
    Overrides,
    Pretrained,
    ShowConfig,
    Untrained,
    config_option,
    encoder_options,
)
from tcgn_mil.experiments.slide_level.config import FinetuneConfig, SlideCvConfig
from tcgn_mil.settings.model_names import check_aggregator_name

Cohort = Annotated[Path | None, config_option(FinetuneConfig, "cohort")]
Features = Annotated[Path | None, config_option(FinetuneConfig, "features")]
Encoder = Annotated[str | None, config_option(FinetuneConfig, "encoder")]
Folds = Annotated[Path | None, config_option(FinetuneConfig, "folds")]
Kind = Annotated[str | None, config_option(FinetuneConfig, "model.kind")]
Targets = Annotated[str | None, config_option(FinetuneConfig, "targets")]
PreserveSites = Annotated[
    bool,
    typer.Option(
        "--preserve-sites",
        help="Keep all patients of a TCGA tissue source site in one fold. The same as"
        " --set group_by=site.",
    ),
]


def finetune(
    cohort: Cohort = None,
    features: Features = None,
    encoder: Encoder = None,
    out: Out = Path("slide-model"),
    kind: Kind = None,
    targets: Targets = None,
    folds: Folds = None,
    preserve_sites: PreserveSites = False,
    encoder_train: Annotated[str | None, config_option(FinetuneConfig, "encoder_train")] = None,
    encoder_model: EncoderModel = None,
    pooling: EncoderPooling = None,
    encoder_argument: EncoderArgument = None,
    pretrained: Pretrained = False,
    untrained: Untrained = False,
    slides: Annotated[Path | None, config_option(FinetuneConfig, "slides")] = None,
    tiles: Annotated[Path | None, config_option(FinetuneConfig, "tiles")] = None,
    mpp: Annotated[float | None, config_option(FinetuneConfig, "mpp")] = None,
    override_mpp: Annotated[bool, config_option(FinetuneConfig, "override_mpp")] = False,
    recursive: Annotated[bool, config_option(FinetuneConfig, "recursive")] = False,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Train a slide model on bulk expression from all tiles of each patient, one model per fold.

    Several processes of torchrun share the training.
    """
    given = {
        "cohort": cohort,
        "features": features,
        "encoder": encoder,
        "model.kind": kind,
        "targets": targets,
        "folds": folds,
        "group_by": "site" if preserve_sites else None,
        "encoder_train": encoder_train,
        **encoder_options(encoder_model, pooling, encoder_argument, pretrained, untrained),
        "slides": slides,
        "tiles": tiles,
        "mpp": mpp,
        "override_mpp": override_mpp or None,
        "recursive": recursive or None,
    }
    resolved = resolve(FinetuneConfig, given, path=config, overrides=overrides)
    if show_config:
        return print_config(resolved)
    return _train(resolved, out)


def slide_cross_validation(
    cohort: Cohort = None,
    features: Features = None,
    encoder: Encoder = None,
    out: Out = Path("slide-cv"),
    kind: Kind = None,
    targets: Targets = None,
    folds: Folds = None,
    group_by: Annotated[str | None, config_option(SlideCvConfig, "group_by")] = None,
    preserve_sites: PreserveSites = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Compare two finished runs gene by gene, and write the result to --out."),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Cross-validate a slide model with p-values from 50 refits, or compare two finished runs.

    Several processes of torchrun share the training and the refits.
    """
    if compare is not None:
        from tcgn_mil.experiments.slide_level.compare_runs import compare_runs

        others = (
            encoder,
            kind,
            targets,
            folds,
            group_by,
            preserve_sites,
            config,
            overrides,
            show_config,
        )
        return compare_and_print(compare_runs, compare, out, others)
    if preserve_sites and group_by not in (None, "site"):
        raise InputError(
            f"--preserve-sites and --group-by {group_by} contradict each other",
            fix="remove one of them",
        )
    given = {
        "cohort": cohort,
        "features": features,
        "encoder": encoder,
        "model.kind": kind,
        "targets": targets,
        "folds": folds,
        "group_by": "site" if preserve_sites else group_by,
    }
    resolved = resolve(SlideCvConfig, given, path=config, overrides=overrides)
    if show_config:
        return print_config(resolved)
    return _train(resolved, out)


def _train(config: FinetuneConfig, out: Path) -> None:
    needs_table = config.targets not in ("genes", "signatures")
    check_inputs(
        Needed(config.cohort, "--cohort", "bulk"),
        Needed(config.features, "--features", "encode or import-features"),
        Needed(config.targets if needs_table else None, "--targets"),
        Needed(config.folds, "--folds"),
        Needed(config.genes, "--set genes"),
        Needed(config.slides, "--slides"),
        Needed(config.tiles, "--tiles", "tile"),
    )
    check_encoder(config.encoder, model=config.encoder_options.model)
    check_aggregator_name(config.model.pooling)
    from tcgn_mil.experiments.slide_level.run import run

    _print_summary(run(config, out), out)


def _print_summary(summary: Mapping[str, Any], out: Path) -> None:
    if by_patient := summary.get("by_patient"):
        typer.echo("folds by patient:")
        print_rows(by_patient["headline"])
        typer.echo(f"{by_patient['predictable']} of {by_patient['genes']} genes predictable\n")
        typer.echo("folds by tissue source site, the result to report:")
    print_rows(summary["headline"])
    warn_of_leakage(summary)
    for label in summary["labels"]:
        typer.echo(label, err=True)
    stated, measured = summary["coverage"]["stated"], summary["coverage"]["measured"]
    intervals = "" if measured is None else f"; {stated:.0%} intervals cover {measured:.1%}"
    typer.echo(
        f"{summary['predictable']} of {summary['genes']} genes predictable{intervals}\n"
        f"models: {out}"
    )
