"""Tiles to features, patches to spot predictions, bags to slide predictions; streaming, on any device.

Takes iterables of (pixels, coords) batches and does not know where they come from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.checkpoints import load_encoder, weights_digest
from tcgn_mil.errors import InputError
from tcgn_mil.models import TCGN, create_encoder, fold_for_inference, input_of
from tcgn_mil.models.network_input import TCGN_INPUT, EncoderInput, to_network_input
from tcgn_mil.types.tile_geometry import PatchSize

TIMM_PREFIX = "timm:"
PRECISIONS = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class TileEncoder:
    """A model that turns tile pixels into features.

    Attributes
    ----------
    model
        In eval mode, without its head: images (B, 3, size_px, size_px) -> (B, D).
    identity
        Name and digest of the weights, as feature files carry it.
    patch
        Physical size it was trained on, None where that is not known (timm models).
    input_spec
        What its input needs.
    """

    model: nn.Module
    identity: str
    patch: PatchSize | None
    input_spec: EncoderInput = TCGN_INPUT

    def features(self, pixels: Tensor) -> Tensor:
        """(B, P, P, 3) uint8 -> (B, D)."""
        return self.model(to_network_input(pixels, self.input_spec))


def open_encoder(source: str, *, pretrained: bool = False) -> TileEncoder:
    """An encoder from a checkpoint's path, or ``timm:<model name>``.

    Parameters
    ----------
    source
        Path of ``encoder.safetensors``, or ``timm:resnet18`` and the like.
    pretrained
        Whether to download weights of a timm model; without, they are random but always the same.

    Raises
    ------
    InputError
        If the checkpoint cannot be read, timm has no such model, or its weights cannot be had.
    """
    if source.startswith(TIMM_PREFIX):
        return _open_timm(source.removeprefix(TIMM_PREFIX), pretrained=pretrained)
    model, info = load_encoder(source)
    identity = f"{info.model}-{weights_digest(model)}"
    model.reset_classifier(0)  # type: ignore[operator]
    return TileEncoder(model, identity, info.patch, info.input_spec)


def _open_timm(name: str, *, pretrained: bool) -> TileEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)  # the CPU's alone, which fork_rng puts back
        model = create_encoder(name, num_classes=0, pretrained=pretrained).eval()
    return TileEncoder(
        model, f"{TIMM_PREFIX}{name}-{weights_digest(model)}", None, input_of(model, name)
    )


def encode_tiles(
    encoder: TileEncoder,
    batches: Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]],
    *,
    device: torch.device,
    precision: str = "32-true",
    dtype: type[np.floating] = np.float16,
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Encode batches of tiles as they come.

    Parameters
    ----------
    batches
        Pairs of (B, P, P, 3) uint8 pixels and (B, 2) coords.
    precision
        ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    dtype
        Of the features returned.

    Returns
    -------
    (N, D) features and (N, 2) int64 coords.
    """
    encoder, mixed = prepared(encoder, device, precision)
    features: list[NDArray[np.floating]] = []
    coords: list[NDArray[np.int64]] = []
    for pixels, positions in batches:
        with torch.inference_mode(), mixed:
            encoded = encoder.features(torch.from_numpy(pixels).to(device))
        if encoded.ndim != 2:
            raise InputError(
                f"encoder {encoder.identity} gives features of shape {tuple(encoded.shape)}, not (tiles, features)",
                fix="choose a model that pools its features",
            )
        features.append(encoded.float().cpu().numpy().astype(dtype))
        coords.append(positions)
    if not features:
        raise InputError("no tile to encode", fix="check the slide's tissue in its overlay")
    return np.concatenate(features), np.concatenate(coords).astype(np.int64)


def prepared(encoder: TileEncoder, device: torch.device, precision: str) -> tuple[TileEncoder, Any]:
    """The encoder in its fastest form for a device and precision, and the context in which to call it.

    A TCGN is folded; any other model runs under autocast.
    """
    mixed = autocast(device, precision)
    model = encoder.model.to(device).eval()
    if isinstance(model, TCGN):
        return replace(
            encoder, model=fold_for_inference(model, PRECISIONS[precision])
        ), contextlib.nullcontext()
    return encoder, mixed


def autocast(device: torch.device, precision: str) -> Any:
    """Mixed precision for ``bf16-mixed`` and ``16-mixed``, none for ``32-true``."""
    if precision not in PRECISIONS:
        raise InputError(
            f"unknown precision {precision!r}", fix=f"choose one of {', '.join(PRECISIONS)}"
        )
    return torch.autocast(device.type, dtype=PRECISIONS[precision], enabled=precision != "32-true")
