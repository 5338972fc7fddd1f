"""Measure tiling and resnet50 features beside LazySlide, on the same slide with the same tiles.

    python -m venv lazyslide && lazyslide/bin/pip install lazyslide
    python -m tcgn_mil.experiments.benchmarks.scale.peer --out measured \\
        --peer-python lazyslide/bin/python

Both programs find tissue, lay tiles of 224 px at 0.5 µm per pixel, and encode them by timm's
resnet50 with random weights, in float32 and batches of 32. They take turns, each in a process of
its own, with the same number of threads (OMP_NUM_THREADS). Reading the tiles is also timed alone,
so that the network's part of the features is the difference. The programs do not do the same:
``tile`` also measures focus, ink and folds and draws pictures, and ``encode`` writes files and
colour statistics. Writes peer.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tcgn_mil.experiments.benchmarks.preprocessing import picture
from tcgn_mil.experiments.benchmarks.throughput.epochs import Spent
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.io.atomic import write_json
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.table import find_slides
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_slide
from tcgn_mil.settings.encoder import EncoderOptions
from tcgn_mil.types.tile_geometry import PatchSize

TILE_PX, MPP, BATCH = 224, 0.5, 32
PARTS = ("start", "tissue and tiles", "reading alone", "features")


def measure_own(slide: Path, out: Path) -> dict[str, Any]:
    """Return CPU and clock seconds of each part of this package, and the number of tiles."""
    parts: dict[str, Any] = {}
    last = Spent(time.perf_counter(), time.process_time())

    def mark(part: str) -> None:
        nonlocal last
        now = Spent(time.perf_counter(), time.process_time())
        parts[part] = Spent(now.wall - last.wall, now.cpu - last.cpu)
        last = now

    start = {"cpu_s": last.cpu}  # Python and the imports at the top of this file
    [entry] = find_slides(slide)
    tiles = tile_slide(entry, TileSettings(patch=PatchSize(TILE_PX, MPP)), out)
    mark("tissue and tiles")
    source = TileSource({entry.slide_id: entry}, out)
    with source.open(tiles, BATCH) as batches:
        count = sum(len(pixels) for pixels, _ in batches)
    mark("reading alone")
    settings = EncodeSettings(
        "timm:resnet50",
        batch_size=BATCH,
        device="cpu",
        encoder_options=EncoderOptions(untrained=True),
    )
    done, failures = encode_cohort([entry.slide_id], source, settings, out / "features")
    mark("features")
    assert done, failures
    spent = {part: {"wall_s": cost.wall, "cpu_s": cost.cpu} for part, cost in parts.items()}
    return {"tiles": count, "threads": torch.get_num_threads(), "start": start, **spent}


def compare(folder: Path, peer_python: Path, side_um: float, rounds: int) -> dict[str, Any]:
    """Return the rounds of both programs, and medians of seconds of the cores for 1,000 tiles."""
    slide = folder / "slide.tiff"
    folder.mkdir(parents=True, exist_ok=True)
    write_pyramid(slide, picture((side_um, side_um), MPP), mpp=MPP)
    peer = [peer_python, Path(__file__).with_name("lazyslide_parts.py")]
    size = [str(TILE_PX), str(MPP), str(BATCH)]
    rows: dict[str, list[dict[str, Any]]] = {"tcgn-mil": [], "LazySlide": []}
    for number in range(rounds):
        out = folder / f"round{number}"
        own = [sys.executable, "-m", __spec__.name, "--own", slide, "--out", out]
        commands = {"tcgn-mil": own, "LazySlide": [*peer, slide, *size]}
        for program, command in commands.items():
            said = subprocess.run(
                list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True
            )
            rows[program].append(json.loads(said.stdout.splitlines()[-1]))
    return {"rounds": rows, "cpu_s_of_1000_tiles": {name: per_1000(rows[name]) for name in rows}}


def per_1000(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Return medians over the rounds: the start in seconds, and each other part for 1,000 tiles.

    Examples
    --------
    >>> part = {"cpu_s": 2.0}
    >>> per_1000([{"tiles": 500, **dict.fromkeys(PARTS, part)}])
    {'start': 2.0, 'tissue and tiles': 4.0, 'reading alone': 4.0, 'features': 4.0}
    """
    medians = {}
    for part in PARTS:
        scale = [1 if part == "start" else 1000 / each["tiles"] for each in rounds]
        seconds = [each[part]["cpu_s"] for each in rounds]
        medians[part] = float(np.median(np.multiply(seconds, scale)))
    return medians


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peer-python", type=Path, help="Python of LazySlide's environment")
    parser.add_argument("--side-um", type=float, default=2500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--own", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.own:
        print(json.dumps(measure_own(given.own, given.out)))
        return
    measured = compare(given.out / "peer", given.peer_python, given.side_um, given.rounds)
    write_json(given.out / "peer.json", measured)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
