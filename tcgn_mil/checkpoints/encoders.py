"""Save and load checkpoints of spot encoders.

The tensors of an encoder's checkpoint are exactly the model's ``state_dict``, so that
``create_encoder(name, genes, checkpoint=path)`` reads the same file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tcgn_mil.checkpoints.file_format import (
    ENCODER,
    SUFFIX,
    from_shared_header,
    header_text,
    naming_the_file,
    read_header,
    shared_header,
    write_checkpoint,
)
from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.safetensors_file import open_tensors
from tcgn_mil.models.encoders import ENCODERS, Architecture, build, create_encoder
from tcgn_mil.models.network_input import TCGN_INPUT, EncoderInput
from tcgn_mil.models.weights import load_weights
from tcgn_mil.settings.model_names import TIMM_PREFIX
from tcgn_mil.text import preview
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize


@dataclass(frozen=True)
class EncoderInfo:
    """Facts without which the weights of a spot encoder cannot be used.

    Attributes
    ----------
    model
        Name for :func:`tcgn_mil.models.create_encoder`.
    panel
        Genes of the output, in order; None for an encoder without a head.
    scaler
        Statistics that turn standardised output into values of `normalisation`; None without a
        head.
    patch
        Physical size of the patches that the encoder was trained on.
    normalisation
        Normalisation of the counts, ``library`` or ``published`` (see
        :mod:`tcgn_mil.targets.spots`).
    provenance
        Training config and versions.
    input_spec
        Side of the network's input, and the mean and standard deviation of red, green and blue by
        which images are normalised.
    architecture
        Facts from which a pooled transformer is built again, without its source on the hub. None
        for a model that :func:`tcgn_mil.models.create_encoder` builds by its name.

    Raises
    ------
    InputError
        If `input_spec` is not a positive side, three means and three positive deviations.
    """

    model: str
    panel: GenePanel | None
    scaler: TargetScaler | None
    patch: PatchSize
    normalisation: str = "library"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    input_spec: EncoderInput = TCGN_INPUT
    architecture: Architecture | None = None

    def __post_init__(self) -> None:
        px, mean, std = self.input_spec[:3]
        if px < 1 or not len(mean) == len(std) == 3 or min(std) <= 0:
            raise InputError(
                f"an encoder cannot have an input of {px} px, mean {mean} and std {std}",
                fix="give a side of at least 1, three means and three positive deviations",
            )

    @property
    def head_panel(self) -> GenePanel:
        """Genes of the head; raises InputError if the encoder has no head."""
        if self.panel is None:
            raise _no_head(self.model)
        return self.panel

    @property
    def head_scaler(self) -> TargetScaler:
        """Statistics of the targets of the head; raises InputError if there is no head."""
        if self.scaler is None:
            raise _no_head(self.model)
        return self.scaler


def _no_head(model: str) -> InputError:
    return InputError(
        f"the encoder {model} has no head for genes",
        fix="give a checkpoint that tcgn-mil pretrain wrote",
    )


def save_encoder(path: str | Path, model: nn.Module, info: EncoderInfo) -> None:
    """Write an encoder with its head to ``<name>.safetensors``, and the header to ``<name>.json``.

    Raises
    ------
    InputError
        If a target statistic is not finite.
    """
    spec = info.input_spec
    header = {
        "kind": ENCODER,
        "model": info.model,
        "input": {
            "px": spec.size_px,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "interpolation": spec.interpolation,
            "resize_px": spec.resize_px,
        },
        "normalisation": info.normalisation,
        **shared_header(info),
    }
    if info.architecture is not None:
        header["architecture"] = info.architecture.as_dict()
    write_checkpoint(path, model, header)


def read_encoder_info(path: str | Path) -> EncoderInfo:
    """Read the header of an encoder's checkpoint, without its weights.

    Raises
    ------
    InputError
        If the file is missing or damaged, is not an encoder's checkpoint, or was written by a later
        version of this package.
    """
    header = read_header(path, kind=ENCODER)
    with naming_the_file(path):
        return EncoderInfo(
            model=header["model"],
            normalisation=header["normalisation"],
            **from_shared_header(header),
            input_spec=_input_spec(header),
            architecture=_architecture(header),
        )


def load_encoder(path: str | Path) -> tuple[nn.Module, EncoderInfo]:
    """Load an encoder from a checkpoint.

    Parameters
    ----------
    path
        ``encoder.safetensors``, as ``tcgn-mil pretrain`` writes it.

    Returns
    -------
    The model with its head, in evaluation mode on the CPU, and the facts of its header.

    Raises
    ------
    InputError
        If the file is not an encoder's checkpoint, or its weights do not fit its model.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import numpy as np
    >>> from tcgn_mil.models import create_encoder
    >>> from tcgn_mil.types.genes import GenePanel, TargetScaler
    >>> from tcgn_mil.types.tile_geometry import PatchSize
    >>> panel = GenePanel(("GZMA", "PRF1"))
    >>> scaler = TargetScaler("log1p", np.zeros(2, np.float32), np.ones(2, np.float32))
    >>> info = EncoderInfo("tcgn_tiny", panel, scaler, PatchSize(112, 0.69))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "encoder.safetensors"
    ...     save_encoder(path, create_encoder("tcgn_tiny", num_classes=2), info)
    ...     model, loaded = load_encoder(path)
    >>> loaded.panel.genes, model.training
    (('GZMA', 'PRF1'), False)
    """
    info = read_encoder_info(path)
    with naming_the_file(path):
        if info.architecture is not None or info.model.removeprefix(TIMM_PREFIX) not in ENCODERS:
            _check_claim(info, Path(path))
        model = build_encoder(info)
    # Not create_encoder(checkpoint=path): it accepts weights of a timm model without a head.
    load_weights(model, path)
    return model.eval(), info


def _check_claim(info: EncoderInfo, path: Path) -> None:
    """Refuse a header that names a larger model than the file holds, before it is built."""
    try:
        with torch.device("meta"):  # shapes without memory
            claimed = sum(value.numel() for value in build_encoder(info).state_dict().values())
    except InputError:
        return  # a few models of timm cannot be built so; building the model says what is wrong
    with open_tensors(path) as file:
        held = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    if claimed > 2 * held:
        raise InputError(
            f"holds {held / 1e6:.1f} million weights, but its header names {info.model}, which has"
            f" {claimed / 1e6:.1f} million",
            path=path,
            fix="copy the file again, or train the model again",
        )


def build_encoder(info: EncoderInfo) -> nn.Module:
    """Build the encoder that a header describes, with its head and with random weights."""
    outputs = 0 if info.panel is None else len(info.panel)
    if info.architecture is not None:
        return build(info.architecture, outputs)
    name = info.model.removeprefix(TIMM_PREFIX)
    return create_encoder(name, outputs, input_px=info.input_spec.size_px)


def check_genes(path: str | Path, panel: GenePanel) -> None:
    """Refuse an encoder's checkpoint that was trained for other genes, or for another order.

    A file without a header of this package (the published layout) names no genes and passes here;
    the shapes of its tensors are checked when it is loaded.

    Raises
    ------
    InputError
        If the genes differ; it names some of them.
    """
    path = Path(path)
    if path.suffix != SUFFIX or not header_text(path):
        return
    trained = read_encoder_info(path).panel
    if trained is None or trained.hash == panel.hash:
        return
    fix = "set panel.file to the genes of the checkpoint, or start from other weights"
    for panel_with, panel_without, whose in (
        (trained, panel, "only the checkpoint"),
        (panel, trained, "only the data's panel"),
    ):
        extra = [gene for gene in panel_with.genes if gene not in set(panel_without.genes)]
        if extra:
            raise InputError(
                f"is a checkpoint for other genes: {whose} has {preview(extra)}", path=path, fix=fix
            )
    raise InputError("is a checkpoint for the same genes in another order", path=path, fix=fix)


def _input_spec(header: Mapping[str, Any]) -> EncoderInput:
    # The first checkpoints have no such entry, since every encoder was a TCGN then.
    if "input" not in header:
        return TCGN_INPUT
    spec = header["input"]
    mean, std = (tuple(float(value) for value in spec[key]) for key in ("mean", "std"))
    # Checkpoints from before these keys were read whole patches, bilinearly.
    resize = spec.get("resize_px")
    interpolation = str(spec.get("interpolation", "bilinear"))
    return EncoderInput(
        int(spec["px"]), mean, std, interpolation, None if resize is None else int(resize)
    )


def _architecture(header: Mapping[str, Any]) -> Architecture | None:
    stored = header.get("architecture")
    return None if stored is None else Architecture(**stored)
