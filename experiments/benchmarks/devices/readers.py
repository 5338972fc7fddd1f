"""Measure how fast tiles reach an encoder, with an encoder of set cost in place of a GPU.

    python -m tcgn_mil.experiments.benchmarks.devices.readers --work bench --out readers.json

The encoder sleeps for a set time a tile, which leaves the cores to the processes that read, as a
GPU does. The rate should be that of the slower part: of the readers alone, or of the encoder alone.
The time begins after the batches that were read before the first one was encoded. Rounds are in
turns, and medians are reported. Memory is the peak of a process that encodes, and of the largest of
its readers, for a slide and for one of eight times as many tiles. The cores should be idle.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tcgn_mil.experiments.benchmarks.preprocessing import READ_MPP, READ_UM, picture
from tcgn_mil.experiments.benchmarks.threads import use_threads_of_command
from tcgn_mil.experiments.encode.readers import AHEAD, ReadTiles, read_ahead
from tcgn_mil.inference.batch_stream import encode_stream
from tcgn_mil.inference.tile_encoder import TileEncoder
from tcgn_mil.io.atomic import write_json
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.grid import lay_grid
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet

COSTS_MS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
READERS = (1, 2)
BATCH = 64
WIDTH = 768  # features a tile
# The slide is read several times over, so that most batches are read while others are encoded. With
# a slow encoder, once is long enough.
TIMES_OVER, SLOW_MS = 3, 2.0
MEMORY_TIMES = (1, 8)


@dataclass(frozen=True)
class SleepingEncoder(TileEncoder):
    """An encoder that takes a set time and no core."""

    cost_s: float = 0.0

    def features(self, pixels: Tensor) -> Tensor:
        """Return zeros (B, WIDTH) after the time of B tiles."""
        time.sleep(self.cost_s * len(pixels))
        return torch.zeros(len(pixels), WIDTH)


def slide_of(folder: Path) -> Path:
    """Write the slide that is read, if it is not there."""
    path = folder / "reading.tiff"
    if not path.exists():
        write_pyramid(path, picture(READ_UM, READ_MPP), mpp=READ_MPP, quality=80)
    return path


def tiles_of(path: Path, times: int) -> TileSet:
    """Lay tiles over the slide, several times over."""
    with open_slide(path) as slide:
        spec = TileSpec.for_slide(
            PatchSize(), slide_mpp=slide.mpp, level_downsamples=slide.level_downsamples
        )
        coords = np.concatenate([lay_grid(slide.size, spec)] * times)
        size = slide.size
    return TileSet(path.stem, coords, np.ones(len(coords), np.float32), spec, size)


def rate(path: Path, readers: int, cost_ms: float, *, times: int | None = None) -> float:
    """Return the tiles encoded in a second."""
    if times is None:
        times = TIMES_OVER if cost_ms < SLOW_MS else 1
    source = TileSource({path.stem: SlideEntry(path.stem, path.stem, path)})
    slides = [tiles_of(path, times)]
    batches = read_ahead(source, slides, readers=readers, batch_size=BATCH, dropped=set())
    encoder = SleepingEncoder(nn.Identity(), "sleep", None, cost_s=cost_ms / 1000)
    readable = ((read.pixels, _checked(read)) for read in batches)
    # The processes have read this many batches by the time that the first one is encoded.
    to_skip, counted, start = AHEAD * readers + 1, 0, 0.0
    for index, batch in enumerate(encode_stream(encoder, readable, device=torch.device("cpu"))):
        if index == to_skip:
            start = time.perf_counter()
        counted += len(batch.features) if index > to_skip else 0
    return counted / (time.perf_counter() - start)


def _checked(read: ReadTiles) -> ReadTiles:
    assert read.failure is None, read.failure
    return read


def _encode_and_measure(path: Path, times: int, answers: Any) -> None:
    rate(path, max(READERS), 0.0, times=times)
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    answers.put([round(part.ru_maxrss / 1024) for part in usage])


def peak_mb(path: Path, times: int) -> list[int]:
    """Return the peak memory of a fresh process that encodes, and of its largest reader."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_encode_and_measure, args=(path, times, answers))
    process.start()
    peaks = answers.get()
    process.join()
    return [int(value) for value in peaks]


def run(folder: Path, *, rounds: int, costs_ms: tuple[float, ...] = COSTS_MS) -> dict[str, Any]:
    """Measure all, and return it with the ratio of each rate to that of the slower part."""
    path = slide_of(folder)
    rates: dict[tuple[int, float], list[float]] = {}
    for _ in range(rounds):
        for cost in (0.0, *costs_ms):
            for readers in READERS:
                rates.setdefault((readers, cost), []).append(rate(path, readers, cost))
    median = {key: statistics.median(values) for key, values in rates.items()}
    rows = []
    for (readers, cost), value in median.items():
        bound = median[readers, 0.0]
        if cost:
            bound = min(bound, 1000 / cost)
        rows.append(
            {
                "readers": readers,
                "cost_ms": cost,
                "tiles_per_s": round(value, 1),
                "of_slower_part": round(value / bound, 3),
            }
        )
    return {
        "rows": rows,
        "two_of_one": round(median[2, 0.0] / median[1, 0.0], 3),
        "peak_mb_encoder_and_reader": {str(n): peak_mb(path, n) for n in MEMORY_TIMES},
    }


def main() -> None:
    """Measure and write the results."""
    use_threads_of_command()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("bench"))
    parser.add_argument("--out", type=Path, default=Path("readers.json"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    results = run(options.work, rounds=options.rounds)
    write_json(options.out, results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
