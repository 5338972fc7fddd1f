"""The verb ``tcgn-mil encode``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.console import (
    finish_cohort,
    keep_cohort,
    report_left_out,
    resolve,
)
from tcgn_mil.experiments.command_line.early import Needed, check_encoder, check_inputs
from tcgn_mil.experiments.command_line.options import (
    AddressOption,
    DevicesOption,
    EncoderArgument,
    EncoderModel,
    EncoderPooling,
    EngineOption,
    Out,
    OverrideMpp,
    Pretrained,
    Recursive,
    ShardOption,
    SlideMpp,
    Slides,
    Untrained,
    config_option,
    encoder_options,
)
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.types.shards import Shard


def encode(
    slides: Slides,
    tiles: Annotated[
        Path,
        typer.Option(
            help="Folder that tcgn-mil tile wrote, or a folder of patches of CLAM, TRIDENT or HEST."
        ),
    ] = Path("tiles"),
    encoder: Annotated[str | None, config_option(EncodeSettings, "encoder")] = None,
    out: Out = Path("features"),
    mpp: SlideMpp = None,
    override_mpp: OverrideMpp = False,
    recursive: Recursive = False,
    batch_size: Annotated[int | None, config_option(EncodeSettings, "batch_size")] = None,
    precision: Annotated[str | None, config_option(EncodeSettings, "precision")] = None,
    device: Annotated[str | None, config_option(EncodeSettings, "device")] = None,
    readers: Annotated[int | None, config_option(EncodeSettings, "readers")] = None,
    encoder_model: EncoderModel = None,
    pooling: EncoderPooling = None,
    encoder_argument: EncoderArgument = None,
    pretrained: Pretrained = False,
    untrained: Untrained = False,
    allow_other_size: Annotated[bool, config_option(EncodeSettings, "allow_other_size")] = False,
    shard: ShardOption = None,
    devices: DevicesOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
) -> None:
    """Encode every tile of every slide; writes <out>/<slide>.h5."""
    given = {
        "encoder": encoder,
        "batch_size": batch_size,
        "precision": precision,
        "device": device,
        "readers": readers,
        **encoder_options(encoder_model, pooling, encoder_argument, pretrained, untrained),
        "allow_other_size": allow_other_size,
    }
    settings = resolve(EncodeSettings, given)
    if device is not None and devices is not None:
        raise InputError(
            "--device and --devices both say where to encode", fix="remove one of the two options"
        )
    share = None if shard is None else Shard.parse(shard)
    from tcgn_mil.experiments.engines.engine import RAY, choose_engine

    workers = choose_engine(engine, address, devices)
    if device is not None and workers.name == RAY:
        raise InputError(
            f"--device {device} with --engine ray would have no effect: Ray chooses the GPUs",
            fix="remove --device, or give --devices cpu:N to encode on N cores of the cluster",
        )
    check_inputs(Needed(slides, "SLIDES"), Needed(tiles, "--tiles", "tile"))
    check_encoder(settings.encoder, model=settings.encoder_options.model)
    # What loads torch is imported after the options have been checked.
    from tcgn_mil.experiments.encode.resume import feature_path
    from tcgn_mil.experiments.encode.run import encode_cohort
    from tcgn_mil.preprocessing.interop.tile_source import TileSource

    source = TileSource.from_slides(
        slides, tiles=tiles, mpp=mpp, override_mpp=override_mpp, recursive=recursive
    )
    names = sorted(source.entries)
    keep_cohort(
        out,
        slides,
        names,
        lambda name: [feature_path(out, name)],
        choice="recursive" if recursive else "",
    )
    done, failures = encode_cohort(names, source, settings, out, shard=share, engine=workers)
    report_left_out(source.left_out, out)
    finish_cohort(len(done), failures, out, what="encoded")
