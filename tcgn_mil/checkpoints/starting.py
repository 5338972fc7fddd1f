"""Start an encoder for training: from a checkpoint of this package, or from any other source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcgn_mil.checkpoints.encoders import load_encoder
from tcgn_mil.checkpoints.published import find_checkpoint, source_name
from tcgn_mil.errors import InputError
from tcgn_mil.models.encoders import StartedEncoder, start_encoder
from tcgn_mil.pathology import check_encoder_tiles
from tcgn_mil.types.genes import GenePanel
from tcgn_mil.types.tile_geometry import PatchSize


def start_from(
    source: str,
    panel: GenePanel | None,
    *,
    checkpoint: str | None = None,
    input_px: int | None = None,
    trains: bool = False,
    **options: Any,
) -> StartedEncoder:
    """Start an encoder with a head for a panel of genes.

    Parameters
    ----------
    source
        A checkpoint of this package, or what :func:`tcgn_mil.models.encoders.start_encoder` takes.
        The head of a checkpoint is kept if it predicts the same panel, and is random otherwise.
    panel
        Genes of the head; None for no head.
    checkpoint, input_px, trains
        As for :func:`tcgn_mil.models.encoders.start_encoder`.
    **options
        Options of :class:`tcgn_mil.settings.encoder.EncoderOptions`.

    Raises
    ------
    InputError
        If the encoder cannot be started, or options contradict a checkpoint.
    """
    outputs = 0 if panel is None else len(panel)
    own = find_checkpoint(source)
    if own is None:
        return start_encoder(
            source, outputs, checkpoint=checkpoint, input_px=input_px, trains=trains, **options
        )
    given = [name for name, value in options.items() if value]
    if Path(own).is_file() and (checkpoint is not None or given):
        raise InputError(
            "is a checkpoint of this package, which says by itself how it is built",
            path=source,
            fix=f"remove {' and '.join(given) or 'checkpoint'}",
        )
    model, info = load_encoder(own)
    if input_px not in (None, info.input_spec.size_px):
        raise InputError(
            f"reads images of {info.input_spec.size_px} px, not {input_px}",
            path=source,
            fix="remove input_px",
        )
    if panel is None or info.panel is None or info.panel.hash != panel.hash:
        model.reset_classifier(outputs)  # type: ignore[operator]
    return StartedEncoder(
        model.train(),
        info.model,
        info.input_spec,
        info.architecture,
        record={"source": source_name(source)},
        patch=info.patch,
    )


def check_started(started: StartedEncoder, patch: PatchSize, *, allow: bool = False) -> None:
    """Check that patches have the physical size that an encoder was trained on before.

    The rule is the one by which ``tcgn-mil encode`` accepts tiles. A model of timm or of a hub
    states no size.

    Raises
    ------
    InputError
        If the sizes differ and `allow` is False.
    """
    if allow:
        return
    expected = started.patch if started.entry is None else started.entry.patch
    if expected is None:
        return
    fix = (
        f"make the spots again with tcgn-mil spots --patch-px {expected.px} --patch-mpp"
        f" {expected.mpp:g}, or set allow_other_size=true"
    )
    if started.entry is not None:
        check_encoder_tiles(started.entry.name, expected, patch, fix=fix)
    elif not expected.matches(patch):
        raise InputError(
            f"{started.name} was trained on patches of {expected}, these are {patch}", fix=fix
        )
