"""Encode tiles to features, batch by batch, on any device.

The batches are pairs of pixels and coordinates; where they come from is not known here.
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
    """Model that turns tile pixels into features.

    Attributes
    ----------
    model
        Encoder without its head, in evaluation mode. It maps images (B, 3, size_px, size_px) to
        features (B, D).
    identity
        Name and digest of the weights, as feature files hold it.
    patch
        Physical size of the patches that it was trained on; None if unknown (timm models).
    input_spec
        Size and normalisation of the images that it reads.
    """

    model: nn.Module
    identity: str
    patch: PatchSize | None
    input_spec: EncoderInput = TCGN_INPUT

    def features(self, pixels: Tensor) -> Tensor:
        """Map pixels (B, P, P, 3) uint8 to features (B, D)."""
        return self.model(to_network_input(pixels, self.input_spec))


def open_encoder(source: str, *, pretrained: bool = False) -> TileEncoder:
    """Open an encoder from a checkpoint, or a model of timm.

    Parameters
    ----------
    source
        Path of an ``encoder.safetensors``, or ``timm:`` and the name of a model, such as
        ``timm:resnet18``.
    pretrained
        Whether to download the weights of a timm model. Otherwise they are random, but always the
        same.

    Raises
    ------
    InputError
        If the checkpoint cannot be read, timm has no such model, or its weights cannot be
        downloaded.

    Examples
    --------
    >>> import torch
    >>> encoder = open_encoder("timm:resnet10t")
    >>> pixels = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    >>> with torch.inference_mode():
    ...     encoder.features(pixels).shape
    torch.Size([2, 512])
    """
    if source.startswith(TIMM_PREFIX):
        return _open_timm(source.removeprefix(TIMM_PREFIX), pretrained=pretrained)
    model, info = load_encoder(source)
    identity = f"{info.model}-{weights_digest(model)}"
    model.reset_classifier(0)  # type: ignore[operator]
    return TileEncoder(model, identity, info.patch, info.input_spec)


def _open_timm(name: str, *, pretrained: bool) -> TileEncoder:
    # The CPU's generator alone is seeded, and fork_rng restores it afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
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
    """Encode batches of tiles one after the other.

    Parameters
    ----------
    encoder
        The encoder.
    batches
        Pairs of pixels (B, P, P, 3) uint8 and coordinates (B, 2).
    device
        Device of the encoder.
    precision
        ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    dtype
        Dtype of the features that are returned.

    Returns
    -------
    Features (N, D) and coordinates (N, 2) int64.

    Raises
    ------
    InputError
        If there is no tile, the precision is unknown, or the model does not pool its features.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> batch = np.zeros((2, 112, 112, 3), np.uint8), np.array([[0, 0], [112, 0]])
    >>> features, coords = encode_tiles(
    ...     open_encoder("timm:resnet10t"), [batch], device=torch.device("cpu")
    ... )
    >>> features.shape, features.dtype, coords.tolist()
    ((2, 512), dtype('float16'), [[0, 0], [112, 0]])
    """
    encoder, mixed = prepared(encoder, device, precision)
    features: list[NDArray[np.floating]] = []
    coords: list[NDArray[np.int64]] = []
    for pixels, positions in batches:
        with torch.inference_mode(), mixed:
            encoded = encoder.features(torch.from_numpy(pixels).to(device))
        if encoded.ndim != 2:
            raise InputError(
                f"encoder {encoder.identity} gives features of shape {tuple(encoded.shape)}, not"
                " (tiles, features)",
                fix="choose a model that pools its features to one vector for each image",
            )
        features.append(encoded.float().cpu().numpy().astype(dtype))
        coords.append(positions)
    if not features:
        raise InputError(
            "there is no tile to encode",
            fix="check the tissue of the slide in its overlay picture",
        )
    return np.concatenate(features), np.concatenate(coords).astype(np.int64)


def prepared(encoder: TileEncoder, device: torch.device, precision: str) -> tuple[TileEncoder, Any]:
    """Return an encoder in its fastest form for a device and precision.

    Returns
    -------
    The encoder, and the context in which to call it. A TCGN is folded
    (:mod:`tcgn_mil.models.folded`); any other model runs under autocast.
    """
    mixed = autocast(device, precision)
    model = encoder.model.to(device).eval()
    if isinstance(model, TCGN):
        return replace(
            encoder, model=fold_for_inference(model, PRECISIONS[precision])
        ), contextlib.nullcontext()
    return encoder, mixed


def autocast(device: torch.device, precision: str) -> Any:
    """Return the context of mixed precision, which does nothing for ``32-true``.

    Raises
    ------
    InputError
        If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"precision is {precision!r}", fix=f"choose one of {', '.join(PRECISIONS)}"
        )
    return torch.autocast(device.type, dtype=PRECISIONS[precision], enabled=precision != "32-true")
