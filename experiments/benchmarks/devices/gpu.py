"""Measure one GPU: TCGN beside resnet50, encoding a slide from end to end, and parity with the CPU.

    python -m tcgn_mil.experiments.benchmarks.devices.gpu --work bench --out gpu.json

It takes some minutes on an NVIDIA GPU. The published TCGN is measured too if its code is at hand:
``--published MODULE:FUNCTION`` names a function without arguments that returns the network; it is
imported from PYTHONPATH. ``--device cpu --small`` runs everything with small networks and few
tiles, to see that the script works; its numbers say nothing.

Speeds are medians of repeated calls, with random images and untrained networks. Encoding is
measured over a synthetic slide with the default readers: its rate is divided by that of the same
encoder on tiles in memory, which is the share of the time that the encoder was busy. Parity is the
largest relative difference of predictions in float32 between GPU and CPU.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tcgn_mil.experiments.benchmarks.backbone_measures import (
    TrainStep,
    build,
    forward_call,
    images,
    machine,
    seconds,
)
from tcgn_mil.experiments.benchmarks.devices.readers import slide_of, tiles_of
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.readers import AHEAD, COLOUR_STEP_PX, read_ahead
from tcgn_mil.experiments.encode.run import MOST_READERS, reader_count
from tcgn_mil.inference.batch_stream import encode_stream
from tcgn_mil.inference.tile_encoder import TileEncoder
from tcgn_mil.io.atomic import write_json
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.types.tiles import TileSet


@dataclass(frozen=True)
class Sizes:
    """Networks and sizes of a measurement.

    Attributes
    ----------
    network, yardstick
        Names of a TCGN and of the network beside it.
    forward, train, encode
        Images in a batch.
    dtypes
        Types of the arithmetic.
    times_over
        Number of times that the slide is read.
    tiles
        Largest number of tiles.
    """

    network: str = "tcgn_ti"
    yardstick: str = "resnet50"
    forward: int = 256
    train: int = 64
    encode: int = 256
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    times_over: int = 10
    tiles: int = 100_000


SMALL = Sizes("tcgn_tiny", "resnet18", 2, 2, 8, ("float32",), 1, 96)


def forward_rates(sizes: Sizes, device: str) -> dict[str, float]:
    """Return images a second of forward passes, by network and arithmetic."""
    forms = {sizes.network: ("plain", "folded"), sizes.yardstick: ("channels_last",)}
    return {
        f"{name} {form} {dtype}": sizes.forward
        / seconds(forward_call(name, form, dtype, sizes.forward, device), device)
        for name, of_name in forms.items()
        for form in of_name
        for dtype in sizes.dtypes
    }


def training_rates(sizes: Sizes, device: str) -> dict[str, float]:
    """Return images a second of training steps, by network and arithmetic."""
    forms = {sizes.network: "plain", sizes.yardstick: "channels_last"}
    return {
        f"{name} {form} {dtype}": sizes.train
        / seconds(TrainStep(name, form, dtype, sizes.train, device), device)
        for name, form in forms.items()
        for dtype in sizes.dtypes
    }


def published_rate(reference: str, sizes: Sizes, device: str) -> float:
    """Return images a second of the published network, from its own code."""
    module, _, function = reference.partition(":")
    network = getattr(importlib.import_module(module), function)().to(device).eval()
    x = images(sizes.forward, "plain", device)

    def call() -> Any:
        with torch.inference_mode():
            return network(x)

    return sizes.forward / seconds(call, device)


def parity(sizes: Sizes, device: str) -> float:
    """Return the largest relative difference of float32 predictions between device and CPU."""
    on_cpu, on_device = (build(sizes.network, "plain", "float32", name) for name in ("cpu", device))
    on_device.load_state_dict(on_cpu.state_dict())
    x = images(8, "plain", "cpu")
    with torch.inference_mode():
        expected, found = on_cpu(x), on_device(x.to(device)).cpu()
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


def encoding(folder: Path, sizes: Sizes, device: str, readers: int | None) -> dict[str, Any]:
    """Return tiles a second from a slide, and from memory, and their ratio."""
    path = slide_of(folder)
    tiles = tiles_of(path, sizes.times_over)
    tiles = tiles.select(slice(0, sizes.tiles))
    network = build(sizes.network, "plain", "float32", "cpu")
    network.reset_classifier(0)
    encoder = TileEncoder(network, f"{sizes.network}-untrained", None, precision="bf16-mixed")
    count = _reader_count(device, readers)
    read = _from_slide(path, tiles, sizes, device, count)
    from_slide = _rate(
        read, min(AHEAD * count + 1, len(tiles) // sizes.encode // 2), encoder, device
    )
    side = tiles.spec.tile_px
    pixels = torch.randint(0, 256, (sizes.encode, side, side, 3), dtype=torch.uint8)
    if device == "cuda":
        pixels = pixels.pin_memory()
    batches = max(4, min(100, len(tiles) // sizes.encode))
    in_memory = _rate(((pixels, None) for _ in range(batches)), 1, encoder, device)
    return {
        "readers": count,
        "tiles": len(tiles),
        "tiles_per_s": round(from_slide, 1),
        "of_memory_tiles_per_s": round(in_memory, 1),
        "share_of_time_busy": round(from_slide / in_memory, 3),
    }


def _reader_count(device: str, readers: int | None) -> int:
    count = reader_count(EncodeSettings(readers=readers), torch.device(device))
    return max(1, min(MOST_READERS, count))


def _from_slide(
    path: Path, tiles: TileSet, sizes: Sizes, device: str, readers: int
) -> Iterator[tuple[Tensor, None]]:
    source = TileSource({path.stem: SlideEntry(path.stem, path.stem, path)})
    on_gpu = device == "cuda"
    for read in read_ahead(
        source,
        [tiles],
        readers=readers,
        batch_size=sizes.encode,
        dropped=set(),
        pin=on_gpu,
        with_colour=not on_gpu,
    ):
        assert read.failure is None, read.failure
        yield read.pixels, None


def _rate(
    batches: Iterator[tuple[Tensor, None]], to_skip: int, encoder: TileEncoder, device: str
) -> float:
    """Return the tiles encoded in a second, after the batches that were read ahead."""
    step = COLOUR_STEP_PX if device == "cuda" else None
    stream = encode_stream(encoder, batches, device=torch.device(device), colour_step_px=step)
    counted, start = 0, time.perf_counter()
    for index, batch in enumerate(stream):
        if index < to_skip:
            counted, start = 0, time.perf_counter()
        else:
            counted += len(batch.features)
    return counted / (time.perf_counter() - start)


def run(
    folder: Path,
    *,
    device: str,
    sizes: Sizes,
    published: str | None = None,
    readers: int | None = None,
) -> dict[str, Any]:
    """Measure all; what was measured last is in the result even if a later part fails."""
    parts: dict[str, Callable[[], Any]] = {
        "machine": lambda: machine(device),
        "forward_images_per_s": lambda: forward_rates(sizes, device),
        "training_images_per_s": lambda: training_rates(sizes, device),
        "parity_float32": lambda: parity(sizes, device),
        "encoding": lambda: encoding(folder, sizes, device, readers),
    }
    if published is not None:
        parts["published_images_per_s"] = lambda: published_rate(published, sizes, device)
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "small": sizes == SMALL,
    }
    for name, measure in parts.items():
        start = time.perf_counter()
        try:
            results[name] = measure()
        except torch.OutOfMemoryError as error:
            results[name] = f"out of memory: {str(error).splitlines()[0]}"
        results[f"{name}_took_s"] = round(time.perf_counter() - start, 1)
        if device == "cuda":
            torch.cuda.empty_cache()
    return results


def table(results: dict[str, Any]) -> str:
    """Return the speeds as a Markdown table."""
    lines = ["| what | images/s |", "|---|---|"]
    for part in ("forward_images_per_s", "training_images_per_s"):
        kind = part.partition("_")[0]
        if isinstance(results[part], dict):
            lines += [f"| {kind}: {name} | {rate:.0f} |" for name, rate in results[part].items()]
    if isinstance(results.get("published_images_per_s"), float):
        lines.append(f"| forward: published | {results['published_images_per_s']:.0f} |")
    if isinstance(of_slide := results["encoding"], dict):
        lines.append(f"| encode, {of_slide['readers']} readers | {of_slide['tiles_per_s']:.0f} |")
        lines.append(f"| encode, tiles in memory | {of_slide['of_memory_tiles_per_s']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write everything as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("bench"))
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--small", action="store_true", help="small networks and few tiles")
    parser.add_argument("--published", help="MODULE:FUNCTION that returns the published network")
    parser.add_argument("--readers", type=int, help="processes that read tiles")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results = run(
        options.work,
        device=options.device,
        sizes=SMALL if options.small else Sizes(),
        published=options.published,
        readers=options.readers,
    )
    write_json(options.out, results)
    print(table(results))
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
