"""The verb ``tcgn-mil explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import resolve
from tcgn_mil.experiments.command_line.early import (
    Needed,
    check_encoder,
    check_inputs,
    check_model,
)
from tcgn_mil.experiments.command_line.options import (
    EncoderArgument,
    EncoderModel,
    EncoderPooling,
    Out,
    Pretrained,
    Untrained,
    config_option,
    encoder_options,
)
from tcgn_mil.experiments.explain.config import ExplainConfig


def explain(
    gene: Annotated[list[str] | None, config_option(ExplainConfig, "genes")] = None,
    encoder: Annotated[str | None, config_option(ExplainConfig, "encoder")] = None,
    out: Out = Path("explanations"),
    spots_dir: Annotated[Path | None, config_option(ExplainConfig, "spots", "--spots")] = None,
    section: Annotated[list[str] | None, config_option(ExplainConfig, "sections")] = None,
    spot: Annotated[list[str] | None, config_option(ExplainConfig, "barcodes")] = None,
    image: Annotated[Path | None, config_option(ExplainConfig, "image")] = None,
    model: Annotated[str | None, config_option(ExplainConfig, "slide_model")] = None,
    features: Annotated[Path | None, config_option(ExplainConfig, "features")] = None,
    tiles: Annotated[Path | None, config_option(ExplainConfig, "tiles")] = None,
    slides: Annotated[Path | None, config_option(ExplainConfig, "slides")] = None,
    slide: Annotated[list[str] | None, config_option(ExplainConfig, "slide_ids")] = None,
    mpp: Annotated[float | None, config_option(ExplainConfig, "mpp")] = None,
    override_mpp: Annotated[bool, config_option(ExplainConfig, "override_mpp")] = False,
    recursive: Annotated[bool, config_option(ExplainConfig, "recursive")] = False,
    top: Annotated[int | None, config_option(ExplainConfig, "top")] = None,
    steps: Annotated[int | None, config_option(ExplainConfig, "steps")] = None,
    encoder_model: EncoderModel = None,
    pooling: EncoderPooling = None,
    encoder_argument: EncoderArgument = None,
    pretrained: Pretrained = False,
    untrained: Untrained = False,
) -> None:
    """Show which parts of an image a prediction depends on.

    Writes Grad-CAM, integrated gradients and the patch graphs, as figures and tables.
    """
    given = {
        "genes": gene,
        "encoder": encoder,
        "spots": spots_dir,
        "sections": section,
        "barcodes": spot,
        "image": image,
        "slide_model": model,
        "features": features,
        "tiles": tiles,
        "slides": slides,
        "slide_ids": slide,
        "mpp": mpp,
        "override_mpp": override_mpp or None,
        "recursive": recursive or None,
        "top": top,
        "steps": steps,
        **encoder_options(encoder_model, pooling, encoder_argument, pretrained, untrained),
    }
    config = resolve(ExplainConfig, given)
    check_inputs(
        Needed(config.spots, "--spots", "spots"),
        Needed(config.image, "--image"),
        Needed(config.slides, "--slides"),
        Needed(
            config.features if config.slide_model else None,
            "--features",
            "encode or import-features",
        ),
        Needed(config.tiles if config.slide_model else None, "--tiles", "tile"),
    )
    check_encoder(config.encoder, model=config.encoder_options.model)
    if config.slide_model is not None:
        check_model(config.slide_model)
    from tcgn_mil.experiments.explain.run import run  # imports torch, after all checks

    summary, failures = run(config, out)
    typer.echo(
        f"{summary['pictures']} pictures explained for {len(summary['genes'])} genes:"
        f" {out / 'explanations.csv'}"
    )
    if summary["trained_on"]:
        typer.echo(
            f"{summary['trained_on']} of them were trained on, so that their predictions look"
            " better than those of new tissue",
            err=True,
        )
    if failures:
        typer.echo(
            f"{len(failures)} sections or slides failed, listed in {out / 'failures.csv'}", err=True
        )
        raise typer.Exit(1)
