"""From features to bulk expression: ``finetune``, ``predict``, ``explain``."""

from __future__ import annotations

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
from tcgn_mil.experiments.command_line.options import Config, Out, Overrides, ShowConfig, SlideMpp

Cohort = Annotated[
    Path | None,
    typer.Option(help="cohort.h5ad that tcgn-mil bulk wrote.", show_default="cohort.h5ad"),
]
Features = Annotated[
    Path | None, typer.Option(help="Folder that tcgn-mil encode wrote.", show_default="features")
]
Encoder = Annotated[
    Path | None,
    typer.Option(
        help="Encoder checkpoint that made the features: for the zero-shot baseline, and form=additive."
    ),
]
Folds = Annotated[
    Path | None,
    typer.Option(
        help="CSV with fold, part (train, val, test), id, or a folder of SurvPath's, CLAM's or SEQUOIA's lists."
    ),
]
PreserveSites = Annotated[
    bool,
    typer.Option(
        "--preserve-sites", help="Keep each TCGA tissue source site in one fold: group_by=site."
    ),
]
EncoderTraining = Annotated[
    str | None,
    typer.Option(
        help="none: on stored features; last, all: then also the encoder's last stage, or all of it.",
        show_default="none",
    ),
]
Slides = Annotated[
    Path | None,
    typer.Option(help="With --encoder-train: the slides, as to encode; one, a folder, or a table."),
]
Tiles = Annotated[
    Path | None,
    typer.Option(help="With --encoder-train: the tiles that the features were made from."),
]


def finetune(
    cohort: Cohort = None,
    features: Features = None,
    encoder: Encoder = None,
    out: Out = Path("slide-model"),
    folds: Folds = None,
    preserve_sites: PreserveSites = False,
    encoder_train: EncoderTraining = None,
    slides: Slides = None,
    tiles: Tiles = None,
    mpp: SlideMpp = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Train attention pooling over all tiles of a patient's slides to bulk expression, one model a fold."""
    from tcgn_mil.experiments.slide_level.config import FinetuneConfig

    group_by = "site" if preserve_sites else None
    given = {
        "cohort": cohort,
        "features": features,
        "encoder": encoder,
        "folds": folds,
        "group_by": group_by,
        "encoder_train": encoder_train,
        "slides": slides,
        "tiles": tiles,
        "mpp": mpp,
    }
    _train(given, out, config, overrides, show_config, FinetuneConfig)


def slide_cross_validation(
    cohort: Cohort = None,
    features: Features = None,
    encoder: Encoder = None,
    out: Out = Path("slide-cv"),
    folds: Folds = None,
    group_by: Annotated[
        str | None,
        typer.Option(help="What stays in one fold: patient, or site (TCGA tissue source site)."),
    ] = None,
    preserve_sites: PreserveSites = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two finished runs to put side by side, gene by gene, in --out."),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """As finetune, with 50 refits on permuted labels, from which p-values come; or put two runs side by side."""
    from tcgn_mil.experiments.slide_level.config import SlideCvConfig

    if compare is not None:
        from tcgn_mil.experiments.slide_level.compare_runs import compare_runs

        others = (encoder, folds, group_by, preserve_sites, config, overrides, show_config)
        compare_and_print(compare_runs, compare, out, others)
        return
    if preserve_sites and group_by not in (None, "site"):
        raise InputError(
            f"--preserve-sites and --group-by {group_by} contradict each other",
            fix="give one of them",
        )
    group_by = "site" if preserve_sites else group_by
    given = {
        "cohort": cohort,
        "features": features,
        "encoder": encoder,
        "folds": folds,
        "group_by": group_by,
    }
    _train(given, out, config, overrides, show_config, SlideCvConfig)


def _train(
    given: dict[str, Any],
    out: Path,
    config: Path | None,
    overrides: list[str] | None,
    show_config: bool,
    config_class: type,
) -> None:
    from tcgn_mil.experiments.slide_level import run as finetuning

    resolved = resolve(config_class, given, path=config, overrides=overrides)
    if show_config:
        return print_config(resolved)
    summary = finetuning.run(resolved, out)
    print_rows(summary["headline"])
    warn_of_leakage(summary)
    for label in summary["labels"]:
        typer.echo(label, err=True)
    stated, measured = summary["coverage"]["stated"], summary["coverage"]["measured"]
    intervals = "" if measured is None else f"; {stated:.0%} intervals cover {measured:.1%}"
    typer.echo(
        f"{summary['predictable']} of {summary['genes']} genes predictable{intervals}\nmodels: {out}"
    )
    return None
