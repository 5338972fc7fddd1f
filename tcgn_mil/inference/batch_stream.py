"""Encode batches of tiles on any device, so that a GPU never waits for the copies of features.

The launch of a batch on a GPU returns at once. Its pixels are copied from pinned memory without
blocking, and its features are copied back into pinned memory while the next batch runs. They are
given out one batch late, when their copy has surely ended. On a CPU nothing is late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcgn_mil.errors import InputError
from tcgn_mil.inference.tile_colour import colour_statistics_of
from tcgn_mil.inference.tile_encoder import AUTO, TileEncoder, prepared

# Batches that a GPU has in work beside the one that is being launched.
_IN_FLIGHT = 2
_TORCH_DTYPES = {np.float16: torch.float16, np.float32: torch.float32}

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class EncodedBatch(Generic[Tag]):
    """Features of one batch, in memory of the CPU.

    Attributes
    ----------
    features
        (B, D) in the dtype that was asked for.
    colour
        (B, 30) float32 colour statistics; None if they were not asked for.
    tag
        What the caller gave with the pixels.
    """

    features: NDArray[np.floating]
    colour: NDArray[np.float32] | None
    tag: Tag


def encode_stream(
    encoder: TileEncoder,
    batches: Iterable[tuple[Tensor, Tag]],
    *,
    device: torch.device,
    precision: str = AUTO,
    dtype: type[np.floating] = np.float16,
    colour_step_px: int | None = None,
) -> Iterator[EncodedBatch[Tag]]:
    """Encode batches in their order.

    Parameters
    ----------
    encoder
        The encoder.
    batches
        Pixels (B, P, P, 3) uint8, and anything that tells the batches apart.
    device
        Device of the encoder.
    precision
        ``auto`` (the encoder's own on a GPU), ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    dtype
        float16 or float32, of the features that are returned.
    colour_step_px
        Compute colour statistics on the device, of the pixels at this step in both directions.
        None computes none.

    Yields
    ------
    EncodedBatch
        One for each batch. A consumer that holds back the next batch also holds back the last ones.

    Raises
    ------
    InputError
        If the precision is unknown, or the model does not pool its features.
    """
    encoder, mixed = prepared(encoder, device, encoder.precision_on(device, precision))
    on_gpu = device.type == "cuda"
    waiting: deque[tuple[list[Tensor], Any, Tag]] = deque()
    for pixels, tag in batches:
        if on_gpu and not pixels.is_pinned():
            pixels = pixels.pin_memory()
        with torch.inference_mode(), mixed:
            moved = pixels.to(device, non_blocking=True)
            encoded = encoder.features(moved)
            _check_pooled(encoded, encoder)
            results = [encoded.float().to(_TORCH_DTYPES[dtype])]
        if colour_step_px is not None:
            results.append(colour_statistics_of(moved[:, ::colour_step_px, ::colour_step_px]))
        waiting.append((*_start_copy(results), tag))
        while len(waiting) > (_IN_FLIGHT if on_gpu else 0):
            yield _finish(*waiting.popleft())
    while waiting:
        yield _finish(*waiting.popleft())


def _check_pooled(encoded: Tensor, encoder: TileEncoder) -> None:
    if encoded.ndim != 2:
        raise InputError(
            f"encoder {encoder.identity} gives features of shape {tuple(encoded.shape)}, not"
            " (tiles, features)",
            fix="choose a model that pools its features to one vector for each image",
        )


def _start_copy(results: list[Tensor]) -> tuple[list[Tensor], Any]:
    """Start the copies to the CPU; the event tells when they have ended, None if they have."""
    if results[0].device.type != "cuda":
        return [result.cpu() for result in results], None
    copies = [torch.empty(part.shape, dtype=part.dtype, pin_memory=True) for part in results]
    for copy, result in zip(copies, results, strict=True):
        copy.copy_(result, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return copies, event


def _finish(copies: list[Tensor], event: Any, tag: Tag) -> EncodedBatch[Tag]:
    if event is not None:
        event.synchronize()
    features, *colour = (copy.numpy() for copy in copies)
    return EncodedBatch(features, colour[0] if colour else None, tag)


def encode_tiles(
    encoder: TileEncoder,
    batches: Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]],
    *,
    device: torch.device,
    precision: str = AUTO,
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
        ``auto`` (the encoder's own on a GPU), ``32-true``, ``bf16-mixed`` or ``16-mixed``.
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
    >>> from tcgn_mil.inference.tile_encoder import open_encoder
    >>> batch = np.zeros((2, 112, 112, 3), np.uint8), np.array([[0, 0], [112, 0]])
    >>> features, coords = encode_tiles(
    ...     open_encoder("timm:resnet10t", untrained=True), [batch], device=torch.device("cpu")
    ... )
    >>> features.shape, features.dtype, coords.tolist()
    ((2, 512), dtype('float16'), [[0, 0], [112, 0]])
    """
    stream = encode_stream(
        encoder,
        ((torch.from_numpy(pixels), positions) for pixels, positions in batches),
        device=device,
        precision=precision,
        dtype=dtype,
    )
    encoded = list(stream)
    if not encoded:
        raise no_tiles()
    features = np.concatenate([batch.features for batch in encoded])
    return features, np.concatenate([batch.tag for batch in encoded]).astype(np.int64)


def no_tiles() -> InputError:
    """Return the error of a slide without tiles."""
    return InputError(
        "there is no tile to encode", fix="check the tissue of the slide in its overlay picture"
    )
