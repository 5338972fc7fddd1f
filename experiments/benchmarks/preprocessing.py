"""Measure speed and memory of preprocessing, beside the raw speed of the file library.

    python -m tcgn_mil.experiments.benchmarks.preprocessing --work bench --out preprocessing.json

Reading: tiles of 112 px are read as ``tcgn-mil encode`` reads them, and by a bare loop of
OpenSlide's read_region over the same places of the same file, in turns over several rounds; then by
two processes, each with half of the tiles, and by one. Tiling: ``tcgn-mil tile`` of a sparse
pyramidal slide of 100,000 x 80,000 px runs in a process of its own, for its peak memory. The cores
should be idle.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray

from tcgn_mil.experiments.demo.synthetic.config import preset
from tcgn_mil.experiments.demo.synthetic.rendering import patient_stain, render
from tcgn_mil.experiments.demo.synthetic.tissue import item_fractions, region_map
from tcgn_mil.io.atomic import atomic_path, write_json
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.grid import lay_grid
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_slide
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

# The resolution of the default tile, so that no pixel is resampled.
READ_MPP = 0.69
READ_UM = (5000.0, 4000.0)
LARGE_PX, LARGE_MPP = (100_000, 80_000), 0.25
LARGE_LEVELS = (1, 4, 16, 64)
# Area of the pieces of tissue that are drawn, as a share of the large slide. Some fall on the same
# place, so that the pieces cover 7.2 % of it. About 60 % of a piece is tissue, the rest is glass.
PIECES_SHARE = 0.08
TIFF_TILE = 256
GLASS = 243  # grey level of empty glass in the synthetic slides
BATCH = 64


def picture(size_um: tuple[float, float], mpp: float) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) of synthetic tissue."""
    config = preset("demo")
    patient = config.patients[0]
    rng = config.rng("benchmark")
    labels = region_map(rng, size_um, 0.6, item_fractions(config, patient, "benchmark"))
    return render(labels, mpp, patient_stain(config, patient, 0), rng)


def read_by_package(path: Path, part: slice) -> int:
    """Read tiles as ``tcgn-mil encode`` does, and return their number."""
    with open_slide(path) as slide:
        spec = TileSpec.for_slide(
            PatchSize(), slide_mpp=slide.mpp, level_downsamples=slide.level_downsamples
        )
        coords = lay_grid(slide.size, spec)[part]
        return sum(len(pixels) for pixels, _ in iter_tiles(slide, coords, spec, BATCH))


def read_by_openslide(path: Path, part: slice) -> int:
    """Read the same places by OpenSlide alone, and return their number."""
    with openslide.OpenSlide(path) as slide:
        mpp = float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
        spec = TileSpec.for_slide(
            PatchSize(), slide_mpp=mpp, level_downsamples=slide.level_downsamples
        )
        coords = lay_grid(slide.dimensions, spec)[part]
        for x, y in coords.tolist():
            np.asarray(slide.read_region((x, y), spec.read_level, (spec.read_px, spec.read_px)))
        return len(coords)


def rate(read: Any, path: Path, part: slice) -> float:
    """Return the tiles read in a second."""
    start = time.perf_counter()
    count = read(path, part)
    return float(count / (time.perf_counter() - start))


def _read_after_signal(path: Path, part: slice, ready: Any, go: Any, counts: Any) -> None:
    read_by_package(path, slice(0, BATCH))
    ready.release()
    go.wait()
    counts.put(read_by_package(path, part))


def rate_of_processes(path: Path, processes: int) -> float:
    """Return the tiles read in a second by several processes that share the tiles of a slide.

    The start of the processes is not counted: each reads a batch and then waits for the others.
    """
    context = multiprocessing.get_context("spawn")
    ready, go, counts = context.Semaphore(0), context.Event(), context.Queue()
    parts = _parts(path, processes)
    started = [
        context.Process(target=_read_after_signal, args=(path, part, ready, go, counts))
        for part in parts
    ]
    for process in started:
        process.start()
    for _ in started:
        ready.acquire()
    start = time.perf_counter()
    go.set()
    total = sum(counts.get() for _ in started)
    seconds = time.perf_counter() - start
    for process in started:
        process.join()
    return float(total / seconds)


def _parts(path: Path, processes: int) -> list[slice]:
    with open_slide(path) as slide:
        spec = TileSpec.for_slide(
            PatchSize(), slide_mpp=slide.mpp, level_downsamples=slide.level_downsamples
        )
        edges = np.linspace(0, len(lay_grid(slide.size, spec)), processes + 1).astype(int).tolist()
    return [slice(first, last) for first, last in pairwise(edges)]


def measure_reading(folder: Path, rounds: int) -> dict[str, Any]:
    """Return median rates, and least, median and greatest ratio over the rounds."""
    path = folder / "reading.tiff"
    if not path.exists():
        write_pyramid(path, picture(READ_UM, READ_MPP), mpp=READ_MPP, quality=80)
    rates: dict[str, list[float]] = {
        "bare OpenSlide": [],
        "tcgn-mil": [],
        "one process": [],
        "two processes": [],
    }
    for _ in range(rounds):
        rates["bare OpenSlide"].append(rate(read_by_openslide, path, slice(None)))
        rates["tcgn-mil"].append(rate(read_by_package, path, slice(None)))
        rates["one process"].append(rate_of_processes(path, 1))
        rates["two processes"].append(rate_of_processes(path, 2))
    median = {name: statistics.median(values) for name, values in rates.items()}
    summary: dict[str, Any] = {
        "tiles_per_s": {name: round(value, 1) for name, value in median.items()}
    }
    for name, over, under in (
        ("of_bare", "tcgn-mil", "bare OpenSlide"),
        ("two_of_one", "two processes", "one process"),
    ):
        ratios = [a / b for a, b in zip(rates[over], rates[under], strict=True)]
        summary[name] = [
            round(value, 3) for value in (min(ratios), statistics.median(ratios), max(ratios))
        ]
    return summary


def write_large(path: Path) -> None:
    """Write a white slide of `LARGE_PX` with pieces of tissue.

    Tiles with equal content are encoded once, because it would take minutes to encode all of them.
    """
    tissue = picture((2000.0, 2000.0), LARGE_MPP)
    rng = np.random.default_rng(0)
    pieces = round(PIECES_SHARE * LARGE_PX[0] * LARGE_PX[1] / (tissue.shape[0] * tissue.shape[1]))
    step = LARGE_LEVELS[-1] * TIFF_TILE
    corners = rng.integers(
        0,
        [(LARGE_PX[0] - tissue.shape[1]) // step, (LARGE_PX[1] - tissue.shape[0]) // step],
        (pieces, 2),
    )
    corners = np.unique(corners * step, axis=0)
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True) as writer:
        for downsample in LARGE_LEVELS:
            small = tissue[::downsample, ::downsample]
            width, height = (side // downsample for side in LARGE_PX)
            per_cm = 1e4 / (LARGE_MPP * downsample)
            writer.write(
                _tiles(small, corners // downsample, width, height),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(TIFF_TILE, TIFF_TILE),
                photometric="rgb",
                compression="jpeg",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                subfiletype=int(downsample > 1),
                metadata=None,
            )


def _tiles(
    piece: NDArray[np.uint8], corners: NDArray[np.int64], width: int, height: int
) -> Iterator[bytes]:
    """Give the encoded tiles, row by row."""

    def encoded(pixels: NDArray[np.uint8]) -> bytes:
        full = np.full((TIFF_TILE, TIFF_TILE, 3), GLASS, np.uint8)
        full[: pixels.shape[0], : pixels.shape[1]] = pixels
        return bytes(
            imagecodecs.jpeg8_encode(full, level=80, colorspace="RGB", outcolorspace="RGB")
        )

    made: dict[tuple[int, int], bytes] = {}
    blank = encoded(np.full((TIFF_TILE, TIFF_TILE, 3), GLASS, np.uint8))
    for y in range(0, height, TIFF_TILE):
        for x in range(0, width, TIFF_TILE):
            offset = np.array([x, y]) - corners
            inside = np.flatnonzero(
                (offset > -TIFF_TILE).all(axis=1) & (offset < piece.shape[1::-1]).all(axis=1)
            )
            if not len(inside):
                yield blank
                continue
            left, top = offset[inside[0]].tolist()
            if (left, top) not in made:
                canvas = np.full((TIFF_TILE, TIFF_TILE, 3), GLASS, np.uint8)
                part = piece[max(top, 0) : top + TIFF_TILE, max(left, 0) : left + TIFF_TILE]
                row, column = max(-top, 0), max(-left, 0)
                canvas[row : row + part.shape[0], column : column + part.shape[1]] = part
                made[left, top] = encoded(canvas)
            yield made[left, top]


def _tile_once(path: Path, out: Path, answers: Any) -> None:
    start = time.perf_counter()
    tiles = tile_slide(SlideEntry(path.stem, path.stem, path), TileSettings(), out)
    seconds = time.perf_counter() - start
    # Linux states the peak in KiB, so 2**20 of them are one GiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    left_out = 0 if tiles.rejected is None else len(tiles.rejected)
    answers.put(
        {
            "seconds": round(seconds, 2),
            "peak_gib": round(peak, 3),
            "tiles": len(tiles),
            "rejected": left_out,
        }
    )


def measure_large(folder: Path) -> dict[str, Any]:
    """Measure the tiling of the large slide, with tissue, quality and pictures."""
    path = folder / "large.tiff"
    if not path.exists():
        write_large(path)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_tile_once, args=(path, folder / "tiles", answers))
    process.start()
    measured: dict[str, Any] = answers.get()
    process.join()
    return measured


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("bench"), help="folder for the slides, which are kept"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="number of times that each way of reading is measured",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("preprocessing.json"),
        help="JSON file to write with the measurements",
    )
    asked = parser.parse_args()
    measured = {
        "reading": measure_reading(asked.work, asked.rounds),
        "tiling": measure_large(asked.work),
    }
    write_json(asked.out, measured)
    sys.stdout.write(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
