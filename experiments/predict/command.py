"""From features to bulk expression: ``finetune``, ``predict``, ``explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.console import finish_cohort
from tcgn_mil.experiments.command_line.options import Out, SlideMpp
from tcgn_mil.text import preview


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
