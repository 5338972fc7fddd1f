"""From slides to features: ``tile``, ``encode``, ``export-tiles``, ``import-features``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.experiments.command_line.console import finish_cohort
from tcgn_mil.experiments.command_line.options import Out, SlideMpp, Slides


def encode(
    slides: Slides,
    tiles: Annotated[
        Path,
        typer.Option(
            help="Folder that tcgn-mil tile wrote, or CLAM's, TRIDENT's or HEST's folder of patches."
        ),
    ] = Path("tiles"),
    encoder: Annotated[
        str, typer.Option(help="Encoder checkpoint, or timm:<model name> for any timm model.")
    ] = "encoder/encoder.safetensors",
    out: Out = Path("features"),
    mpp: SlideMpp = None,
    batch_size: Annotated[int, typer.Option(help="Tiles a batch.")] = 64,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = "32-true",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    pretrained: Annotated[
        bool,
        typer.Option(help="For timm models: download pretrained weights instead of random ones."),
    ] = False,
    allow_other_size: Annotated[
        bool,
        typer.Option(help="Accept tiles of another physical size than the encoder was trained on."),
    ] = False,
) -> None:
    """Encode every tile; writes features/<slide>.h5."""
    from tcgn_mil.experiments.encode.run import EncodeSettings, encode_cohort
    from tcgn_mil.preprocessing.interop.tile_source import TileSource

    settings = EncodeSettings(encoder, batch_size, precision, device, pretrained, allow_other_size)
    source = TileSource.from_slides(slides, tiles=tiles, mpp=mpp)
    done, failures = encode_cohort(sorted(source.entries), source, settings, out)
    finish_cohort(len(done), failures, out, what="slides encoded")
