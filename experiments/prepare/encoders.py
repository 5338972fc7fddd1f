"""The verb ``encoders``, which lists the registry, and the field of view of an encoder's tiles."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.pathology import (
    PATHOLOGY_ENCODERS,
    PathologyEncoder,
    close_names,
    find_entry,
    read_encoder_entries,
)
from tcgn_mil.types.tile_geometry import PatchSize

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_HEADINGS = ("name", "width", "pooling", "tile", "parameters", "access", "here", "licence", "page")


def encoders(
    file: Annotated[
        Path | None,
        typer.Argument(help="YAML file with entries of your own to check and list."),
    ] = None,
) -> None:
    """List the pathology encoders of the registry, and whether their weights are on this machine.

    Each name is a value of --encoder. Tiles of the size in the column "tile" are cut by
    tcgn-mil tile --encoder <name>.
    """
    listed = PATHOLOGY_ENCODERS if file is None else read_encoder_entries(file)
    rows = [_HEADINGS, *(_row(entry) for entry in listed.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())
    typer.echo(
        "\ntile: µm of a side (pixels at µm per pixel). gated: ask for access on the page, then run"
        " hf auth login. The licence is that of the weights; read it on the page before use."
    )


def _row(entry: PathologyEncoder) -> tuple[str, ...]:
    parameters = "" if entry.parameters is None else f"{entry.parameters / 1e6:.0f} M"
    return (
        entry.name,
        str(entry.width),
        entry.pooling,
        f"{entry.patch.um:g} ({entry.tile_px} at {entry.mpp:g})",
        parameters,
        "gated" if entry.gated else "open",
        "yes" if is_here(entry) else "no",
        entry.licence,
        f"https://huggingface.co/{entry.hub}",
    )


def is_here(entry: PathologyEncoder) -> bool:
    """Return whether the weights of an encoder are in the cache of the hub on this machine."""
    from tcgn_mil.hub import cached

    files: Iterable[str] = (entry.weights,) if entry.weights else _WEIGHTS
    return any(cached(entry.hub, file) is not None for file in files)


def tiles_of(encoder: str) -> PatchSize:
    """Return the size of the tiles that an encoder was trained on.

    Parameters
    ----------
    encoder
        A name of the registry, a YAML file with an entry, a known repository on the hub, or a
        checkpoint of ``tcgn-mil pretrain``.

    Raises
    ------
    InputError
        If nothing states the size.

    Examples
    --------
    >>> tiles_of("gigapath")
    PatchSize(px=256, mpp=0.5)
    """
    if Path(encoder).suffix == ".safetensors":
        from tcgn_mil.checkpoints import read_encoder_info

        return read_encoder_info(encoder).patch
    entry = find_entry(encoder)
    if entry is None:
        close = close_names(encoder)
        raise InputError(
            f"nothing states the tiles that encoder {encoder!r} was trained on",
            fix=f"did you mean {' or '.join(close)}?"
            if close
            else "give --patch-px and --patch-mpp, or a name that tcgn-mil encoders lists",
        )
    return entry.patch
