"""From features to bulk expression: ``finetune``, ``predict``, ``explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.console import (
    compare_and_print,
    finish_cohort,
    print_config,
    print_rows,
    resolve,
    warn_of_leakage,
)
from tcgn_mil.experiments.command_line.options import Config, Out, Overrides, ShowConfig, SlideMpp
from tcgn_mil.types.tiles import preview

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

    resolved = resolve(config_class, config, overrides, given)
    if show_config:
        return print_config(resolved)
    source = None
    if resolved.encoder_train != "none":
        from tcgn_mil.preprocessing.interop.tile_source import pixel_source

        source = pixel_source(resolved.slides, resolved.tiles, resolved.mpp)
    summary = finetuning.run(resolved, out, source=source)
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


def predict(
    model: Annotated[Path, typer.Option(help="Folder that tcgn-mil finetune wrote.")] = Path(
        "slide-model"
    ),
    features: Annotated[
        Path | None,
        typer.Option(help="Folder that tcgn-mil encode wrote.", show_default="features"),
    ] = None,
    slides: Annotated[
        Path | None,
        typer.Option(
            help="Instead of features: one slide, a folder, or a table, tiled as the training slides were, and encoded."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="With --slides: the encoder.", show_default="encoder/encoder.safetensors"
        ),
    ] = None,
    mpp: SlideMpp = None,
    pretrained: Annotated[
        bool, typer.Option(help="With --slides and timm models: pretrained weights, as to encode.")
    ] = False,
    keep_features: Annotated[
        bool, typer.Option(help="With --slides: keep out/work with tiles and features.")
    ] = False,
    patch_px: Annotated[
        int | None,
        typer.Option(
            help="With --slides: side of a tile in stored pixels.", show_default="the model's"
        ),
    ] = None,
    patch_mpp: Annotated[
        float | None,
        typer.Option(help="With --slides: µm per stored pixel.", show_default="the model's"),
    ] = None,
    allow_other_size: Annotated[
        bool,
        typer.Option(
            help="Accept tiles of another physical size than the model was trained on; labelled so."
        ),
    ] = False,
    out: Out = Path("predictions"),
    thumbnails: Annotated[
        Path | None, typer.Option(help="Folder of tcgn-mil tile, for the pictures under the maps.")
    ] = None,
    map_gene: Annotated[
        list[str] | None,
        typer.Option(help="Gene to draw, repeatable; the best predicted ones by default."),
    ] = None,
    maps: Annotated[
        bool,
        typer.Option(
            help="Attention and expression maps of each slide, as .png, .geojson and .h5ad."
        ),
    ] = True,
    map_signatures: Annotated[
        Path | None,
        typer.Option(help="GMT file of gene sets to draw: means of their genes' tile scores."),
    ] = None,
    table_format: Annotated[
        list[str] | None,
        typer.Option(
            help="csv or parquet, repeatable: format of the table of predictions.",
            show_default="csv",
        ),
    ] = None,
) -> None:
    """Predict bulk expression from features or slides; writes predicted.h5ad, predicted.csv and maps of each slide."""
    from tcgn_mil.experiments.predict.config import PredictConfig
    from tcgn_mil.experiments.predict.run import run

    work, unmade = None, []
    only_slides = {
        "encoder": encoder,
        "mpp": mpp,
        "pretrained": pretrained,
        "keep-features": keep_features,
        "patch-px": patch_px,
        "patch-mpp": patch_mpp,
    }
    if slides is None and (
        given := [f"--{name}" for name, value in only_slides.items() if value not in (None, False)]
    ):
        raise InputError(
            f"{' and '.join(given)} without --slides", fix="give --slides, or drop them"
        )
    if slides is not None and features is not None:
        raise InputError(
            "--slides and --features at once: features would be made of the slides, and those given ignored",
            fix="give --features alone if these slides are encoded, else --slides alone",
        )
    if slides is not None:
        from tcgn_mil.experiments.predict.from_slides import SlideOptions, SlideWork

        work = SlideWork(out / "work")
        options = SlideOptions(mpp, pretrained, patch_px, patch_mpp, allow_other_size)
        unmade = work.make(slides, model, encoder or "encoder/encoder.safetensors", options)
        features, thumbnails = work.features, thumbnails or work.tiles
    chosen = PredictConfig(
        str(model),
        str(features or "features"),
        None if thumbnails is None else str(thumbnails),
        tuple(map_gene or ()),
        maps,
        None if map_signatures is None else str(map_signatures),
        tuple(table_format or ("csv",)),
        allow_other_size,
    )
    summary, failures = run(chosen, out, unmade=unmade, notes=() if work is None else work.notes)
    if work is not None and not keep_features:
        work.remove()
    shape = f"{summary['patients']} patients x {summary['genes']} genes"
    typer.echo(f"{shape} ({summary['unit']}): {out / 'predicted.h5ad'}")
    for note in summary["notes"]:
        typer.echo(note, err=True)
    for name, reason in summary["signatures_left_out"].items():
        typer.echo(f"gene set {name} is not drawn: {reason}", err=True)
    if summary["out_of_distribution"]:
        typer.echo(
            f"unlike the training slides (ood_score above 1): {preview(summary['out_of_distribution'])}",
            err=True,
        )
    seen = summary["relation"].get("trained on", 0)
    if seen:
        typer.echo(
            f"{seen} of the patients were trained on: their predictions flatter the model", err=True
        )
    finish_cohort(summary["slides"], failures, out, what="slides predicted")


def explain(
    gene: Annotated[
        list[str] | None, typer.Option(help="Gene to explain; may be repeated.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="Encoder checkpoint; with --slide-model also timm:<model name>.")
    ] = "encoder/encoder.safetensors",
    out: Out = Path("explanations"),
    spots_dir: Annotated[
        Path | None,
        typer.Option(
            "--spots", help="Explain spots: a folder that tcgn-mil spots wrote, or one .h5ad."
        ),
    ] = None,
    section: Annotated[
        list[str] | None, typer.Option(help="Only this section; may be repeated.")
    ] = None,
    spot: Annotated[
        list[str] | None,
        typer.Option(
            help="Spot; repeatable. Without, for each gene the --top of highest prediction."
        ),
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Explain the centre of a picture, with its --mpp.")
    ] = None,
    slide_model: Annotated[
        Path | None,
        typer.Option(
            help="Explain tiles of top attention: the folder that tcgn-mil finetune wrote."
        ),
    ] = None,
    features: Annotated[Path, typer.Option(help="Folder that tcgn-mil encode wrote.")] = Path(
        "features"
    ),
    tiles: Annotated[Path, typer.Option(help="Folder that tcgn-mil tile wrote.")] = Path("tiles"),
    slides: Annotated[
        Path | None, typer.Option(help="One slide, a folder, or a table, as to encode.")
    ] = None,
    slide: Annotated[
        list[str] | None, typer.Option(help="Slide whose tiles are explained; repeatable.")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(help="µm per pixel of the picture, or of slides without.")
    ] = None,
    top: Annotated[int, typer.Option(help="Spots a gene, or tiles a slide.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps of the integrated gradients.")] = 64,
    pretrained: Annotated[
        bool, typer.Option(help="For timm models: pretrained weights, as to encode.")
    ] = False,
) -> None:
    """Show what a prediction rests on: Grad-CAM, integrated gradients and the learned graph, as figures and tables."""
    from tcgn_mil.experiments.explain.run import ExplainConfig, run
    from tcgn_mil.preprocessing.interop.tile_source import centre_reader, tile_reader
    from tcgn_mil.preprocessing.slides.table import find_slides

    names = {"spots": spots_dir, "image": image, "slide_model": slide_model, "slides": slides}
    paths = {key: None if value is None else str(value) for key, value in names.items()}
    chosen = ExplainConfig(
        encoder,
        tuple(gene or ()),
        sections=tuple(section or ()),
        barcodes=tuple(spot or ()),
        mpp=mpp,
        top=top,
        steps=steps,
        features=str(features),
        tiles=str(tiles),
        slide_ids=tuple(slide or ()),
        pretrained=pretrained,
        **paths,
    )
    entries = (
        {} if slides is None else {entry.slide_id: entry for entry in find_slides(slides, mpp=mpp)}
    )
    if unknown := [name for name in chosen.slide_ids if name not in entries]:
        raise InputError(
            f"no slide {preview(unknown)} among them",
            path=slides,
            fix=f"slides are {preview([*entries])}",
        )
    summary, failures = run(
        chosen,
        out,
        open_tiles=tile_reader(entries),
        read_image=None if image is None else centre_reader(image, mpp),
    )
    typer.echo(
        f"{summary['pictures']} pictures explained for {len(chosen.genes)} genes: {out / 'explanations.csv'}"
    )
    if summary["trained_on"]:
        typer.echo(
            f"{summary['trained_on']} of them were trained on: their predictions flatter the model",
            err=True,
        )
    if failures:
        typer.echo(
            f"{len(failures)} sections or slides failed, listed in {out / 'failures.csv'}", err=True
        )
        raise typer.Exit(1)
