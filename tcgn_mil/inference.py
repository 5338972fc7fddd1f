"""Tiles to features, patches to spot predictions, bags to slide predictions; streaming, on any device.

Takes iterables of (pixels, coords) batches and does not know where they come from.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcgn_mil.checkpoints import load_encoder, weights_digest
from tcgn_mil.contracts import PatchSize
from tcgn_mil.data.bags import Bag
from tcgn_mil.data.transforms import IMAGENET_MEAN, IMAGENET_STD, NETWORK_PX, to_network_input
from tcgn_mil.errors import InputError
from tcgn_mil.models.mil import SlideRegressor

Item = TypeVar("Item")
TIMM_PREFIX = "timm:"
_TILES_A_CHUNK = 16_384


@dataclass(frozen=True)
class TileEncoder:
    """A model that turns tile pixels into features.

    Attributes
    ----------
    model
        In eval mode; ``forward_features`` of TCGN, or a headless timm model.
    identity
        Name and digest of the weights, as feature files carry it.
    patch
        Physical size it was trained on, None where that is not known (timm models).
    input_px, mean, std
        What its input needs.
    """

    model: nn.Module
    identity: str
    patch: PatchSize | None
    input_px: int = NETWORK_PX
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def features(self, pixels: Tensor) -> Tensor:
        """(B, P, P, 3) uint8 -> (B, D)."""
        images = to_network_input(pixels, self.input_px, mean=self.mean, std=self.std)
        return self.model.forward_features(images) if self.patch is not None else self.model(images)


def open_encoder(source: str, *, pretrained: bool = False) -> TileEncoder:
    """An encoder from a checkpoint's path, or ``timm:<model name>``.

    Parameters
    ----------
    source
        Path of ``encoder.safetensors``, or ``timm:resnet18`` and the like.
    pretrained
        Whether to download weights of a timm model; without, they are random but always the same.
    """
    if not source.startswith(TIMM_PREFIX):
        model, info = load_encoder(source)
        return TileEncoder(model, f"{info.model}-{weights_digest(model)}", info.patch)
    import timm

    name = source.removeprefix(TIMM_PREFIX)
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:3]
        raise InputError(f"timm has no model {name!r}", fix=f"did you mean {', '.join(close)}?" if close else None)
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=pretrained, num_classes=0).eval()
    data = timm.data.resolve_model_data_config(model)
    return TileEncoder(
        model, f"{source}-{weights_digest(model)}", None, data["input_size"][-1], data["mean"], data["std"]
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
    encoder.model.to(device).eval()
    features: list[NDArray[np.floating]] = []
    coords: list[NDArray[np.int64]] = []
    for pixels, positions in batches:
        with torch.inference_mode(), autocast(device, precision):
            encoded = encoder.features(torch.from_numpy(pixels).to(device))
        features.append(encoded.float().cpu().numpy().astype(dtype))
        coords.append(positions)
    if not features:
        raise InputError("no tile to encode", fix="check the slide's tissue in its overlay")
    return np.concatenate(features), np.concatenate(coords).astype(np.int64)


def autocast(device: torch.device, precision: str) -> Any:
    """Mixed precision for ``bf16-mixed`` and ``16-mixed``, none for ``32-true``."""
    kinds = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision not in kinds:
        raise InputError(f"unknown precision {precision!r}", fix=f"choose one of {', '.join(kinds)}")
    return torch.autocast(device.type, dtype=kinds[precision], enabled=precision != "32-true")


def predict_spots(model: nn.Module, patches: NDArray[np.uint8], *, batch_size: int) -> NDArray[np.float32]:
    """Standardised expression (S, G) of patches (S, P, P, 3), by a model in eval mode on its own device."""
    device = next(model.parameters()).device
    found = []
    with torch.inference_mode():
        for start in range(0, len(patches), batch_size):
            pixels = torch.from_numpy(np.ascontiguousarray(patches[start : start + batch_size])).to(device)
            found.append(model(to_network_input(pixels)).float().cpu().numpy())
    return np.concatenate(found)


class SlidePrediction(NamedTuple):
    """``expression`` (G,) standardised, ``attention`` (N,) mean over heads, ``tile_expression`` (N, chosen genes)."""

    expression: NDArray[np.float32]
    attention: NDArray[np.float32]
    tile_expression: NDArray[np.float32]


def predict_bag(model: SlideRegressor, bag: Bag, *, tile_genes: Sequence[int] = ()) -> SlidePrediction:
    """Predict one patient from all tiles; tile scores, of the genes asked for, are computed in chunks of tiles."""
    device = next(model.parameters()).device
    features = torch.from_numpy(bag.features).to(device)[None]
    with torch.inference_mode():
        out = model(features, torch.ones(features.shape[:2], dtype=torch.bool, device=device))
        chunks = [model.tile_expression(part, tile_genes)[0].cpu() for part in features.split(_TILES_A_CHUNK, dim=1)]
    return SlidePrediction(
        out.expression[0].cpu().numpy(), out.attention[0].mean(dim=0).cpu().numpy(), torch.cat(chunks).numpy()
    )


@contextmanager
def prefetch(source: Iterable[Item], *, depth: int = 4) -> Iterator[Iterator[Item]]:
    """Yield an iterator whose items are made by a thread, up to `depth` ahead; its exceptions are raised here.

    Leaving the context stops the thread, whether the items were used up or not.
    """
    items: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop, end = threading.Event(), object()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                items.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in source:
                if not put((item, None)):
                    return
            put((end, None))
        except BaseException as error:  # handed to the consumer, which raises it
            put((end, error))

    def consume() -> Iterator[Item]:
        while True:
            item, error = items.get()
            if error is not None:
                raise error
            if item is end:
                return
            yield item

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stop.set()
        thread.join()
