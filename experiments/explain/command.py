"""From features to bulk expression: ``finetune``, ``predict``, ``explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.options import Out


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
    from tcgn_mil.experiments.explain.config import ExplainConfig
    from tcgn_mil.experiments.explain.run import run

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
    summary, failures = run(chosen, out)
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
