"""The verb ``tcgn-mil predict``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.console import finish_cohort, resolve
from tcgn_mil.experiments.command_line.early import (
    Needed,
    check_encoder,
    check_inputs,
    check_model,
)
from tcgn_mil.experiments.command_line.options import (
    AddressOption,
    DevicesOption,
    EncoderArgument,
    EncoderModel,
    EncoderPooling,
    EngineOption,
    Out,
    Pretrained,
    ShardOption,
    Untrained,
    config_option,
    encoder_options,
)
from tcgn_mil.experiments.predict.config import PredictConfig, SlideOptions
from tcgn_mil.text import counted, preview
from tcgn_mil.types.shards import Shard


def predict(
    model: Annotated[str | None, config_option(PredictConfig, "model")] = None,
    features: Annotated[Path | None, config_option(PredictConfig, "features")] = None,
    slides: Annotated[Path | None, config_option(SlideOptions, "slides")] = None,
    encoder: Annotated[str | None, config_option(SlideOptions, "encoder")] = None,
    mpp: Annotated[float | None, config_option(SlideOptions, "mpp")] = None,
    override_mpp: Annotated[bool, config_option(SlideOptions, "override_mpp")] = False,
    recursive: Annotated[bool, config_option(SlideOptions, "recursive")] = False,
    encoder_model: EncoderModel = None,
    pooling: EncoderPooling = None,
    encoder_argument: EncoderArgument = None,
    pretrained: Pretrained = False,
    untrained: Untrained = False,
    batch_size: Annotated[int | None, config_option(SlideOptions, "batch_size")] = None,
    precision: Annotated[str | None, config_option(SlideOptions, "precision")] = None,
    device: Annotated[str | None, config_option(SlideOptions, "device")] = None,
    readers: Annotated[int | None, config_option(SlideOptions, "readers")] = None,
    keep_features: Annotated[bool, config_option(SlideOptions, "keep_features")] = False,
    patch_px: Annotated[int | None, config_option(SlideOptions, "patch_px")] = None,
    patch_mpp: Annotated[float | None, config_option(SlideOptions, "patch_mpp")] = None,
    allow_other_size: Annotated[bool, config_option(PredictConfig, "allow_other_size")] = False,
    out: Out = Path("predictions"),
    thumbnails: Annotated[Path | None, config_option(PredictConfig, "thumbnails")] = None,
    map_gene: Annotated[list[str] | None, config_option(PredictConfig, "map_genes")] = None,
    maps: Annotated[bool, config_option(PredictConfig, "maps")] = True,
    map_origin: Annotated[str | None, config_option(PredictConfig, "map_origin")] = None,
    map_signatures: Annotated[Path | None, config_option(PredictConfig, "map_signatures")] = None,
    table_format: Annotated[list[str] | None, config_option(PredictConfig, "table_formats")] = None,
    shard: ShardOption = None,
    devices: DevicesOption = None,
    engine: EngineOption = "local",
    address: AddressOption = None,
) -> None:
    """Predict bulk expression from features or slides; writes tables, and maps of each slide.

    With --slides and --shard, one share of the slides is tiled and encoded. When all shares have
    ended, the same command without --shard predicts.
    """
    of_slides = {
        "encoder": encoder,
        "mpp": mpp,
        "override_mpp": override_mpp or None,
        "recursive": recursive or None,
        **encoder_options(encoder_model, pooling, encoder_argument, pretrained, untrained),
        "batch_size": batch_size,
        "precision": precision,
        "readers": readers,
        "keep_features": keep_features or None,
        "patch_px": patch_px,
        "patch_mpp": patch_mpp,
    }
    of_workers = {
        "shard": shard,
        "devices": devices,
        "engine": None if engine == "local" else engine,
        "address": address,
    }
    _check_options(slides, features, {**of_slides, "device": device, **of_workers})
    if device is not None and devices is not None:
        raise InputError(
            "--device and --devices both say where to encode", fix="remove one of the two options"
        )
    if device is not None and engine == "ray":
        raise InputError(
            f"--device {device} with --engine ray would have no effect: Ray chooses the GPUs",
            fix="remove --device, or give --devices cpu:N to encode on N cores of the cluster",
        )
    share = None if shard is None else Shard.parse(shard)
    config = resolve(
        PredictConfig,
        {
            "model": model,
            "features": features,
            "thumbnails": thumbnails,
            "map_genes": map_gene or None,
            "maps": maps,
            "map_origin": map_origin,
            "map_signatures": map_signatures,
            "table_formats": table_format or None,
            "allow_other_size": allow_other_size,
        },
    )
    options = None
    if slides is not None:
        options = resolve(SlideOptions, {"slides": slides, "device": device, **of_slides})
        check_encoder(options.encoder, model=options.encoder_options.model)
    from tcgn_mil.experiments.engines.engine import choose_engine

    workers = choose_engine(engine, address, devices)
    check_model(config.model)
    check_inputs(
        Needed(slides, "--slides"),
        Needed(
            config.features if slides is None else None, "--features", "encode or import-features"
        ),
        Needed(config.thumbnails, "--thumbnails", "tile"),
        Needed(config.map_signatures, "--map-signatures"),
    )
    # What loads torch is imported after the options and paths have been checked.
    from tcgn_mil.experiments.predict.run import prepare_share, run

    if options is not None and share is not None:
        done, failures = prepare_share(config, out, options, share, workers)
        finish_cohort(len(done), failures, out, what="tiled and encoded")
        return
    summary, failures = run(config, out, slides=options, engine=workers)
    _print_summary(summary, out)
    finish_cohort(summary["slides"], failures, out, what="predicted")


def _check_options(
    slides: Path | None, features: Path | None, of_slides: Mapping[str, Any]
) -> None:
    """Refuse options that would have no effect."""
    names = {
        "encoder_options.model": "encoder-model",
        "encoder_options.arguments": "encoder-argument",
    }
    given = [
        f"--{names.get(key, key.rpartition('.')[2]).replace('_', '-')}"
        for key, value in of_slides.items()
        if value is not None
    ]
    if slides is None and given:
        raise InputError(
            f"{' and '.join(given)} without --slides would have no effect",
            fix="give --slides, or remove these options",
        )
    if slides is not None and features is not None:
        raise InputError(
            "--slides and --features at once: features would be made from the slides, and those"
            " given would be ignored",
            fix="give --features alone if the slides are encoded already, else --slides alone",
        )


def _print_summary(summary: Mapping[str, Any], out: Path) -> None:
    """Print what was predicted, and on standard error what a reader must know about it."""
    from tcgn_mil.inference.out_of_distribution import FEWEST_PATIENTS

    shape = f"{counted(summary['patients'], 'patient')} x {counted(summary['genes'], 'gene')}"
    typer.echo(f"{shape} ({summary['unit']}): {out / 'predicted.h5ad'}")
    for note in summary["notes"]:
        typer.echo(note, err=True)
    for name, reason in summary["signatures_left_out"].items():
        typer.echo(f"gene set {name} is not drawn: {reason}", err=True)
    if unlike := summary["out_of_distribution"]:
        typer.echo(f"unlike the training patients (ood_p <= 0.05): {preview(unlike)}", err=True)
    if summary["out_of_distribution_unknown"]:
        typer.echo(
            "too few training patients to tell whether new patients are like them"
            f" (at least {FEWEST_PATIENTS} are needed)",
            err=True,
        )
    if trained_on := summary["relation"].get("trained on", 0):
        typer.echo(
            f"{trained_on} of the patients were trained on, so that their predictions look better"
            " than those of new patients",
            err=True,
        )
