"""Measure slide-level training, a large bag, the encoding of slides, and statistics per gene.

    python -m tcgn_mil.experiments.benchmarks.mil --out measured [--only epoch] [--slides 500]

Ratios are taken within one run. An epoch over features on disk, in the plain and the folded form of
the first layer, is compared with reading the same files in a loop with h5py; encoding from a slide,
as ``tcgn-mil predict --slides`` does it, with encoding the same tiles from memory; statistics with
scipy, gene by gene. Features are random float16 numbers and are left in ``--features`` to be used
again. Peak memory is that of the process until then, so that a part whose memory is wanted must run
alone (``--only``).
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import pearsonr

from tcgn_mil.experiments.benchmarks.preprocessing import picture
from tcgn_mil.experiments.benchmarks.threads import use_threads_of_command
from tcgn_mil.experiments.benchmarks.throughput.epochs import compare_epochs
from tcgn_mil.experiments.benchmarks.throughput.refits import refits_of_a_fold
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.run import encode_cohort
from tcgn_mil.inference.batch_stream import encode_tiles
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.atomic import write_json
from tcgn_mil.io.feature_files import write_features
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_slide
from tcgn_mil.progress import Progress
from tcgn_mil.settings.encoder import EncoderOptions
from tcgn_mil.settings.slide_model import Form, MilConfig
from tcgn_mil.statistics.out_of_fold import combined_r
from tcgn_mil.statistics.p_values import null_p_values
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet

SLIDE_UM, SLIDE_MPP = (4000.0, 3000.0), 0.5
PARTS = ("epoch", "additive", "refits", "large_bag", "encoding", "statistics")
FORM_OF: dict[str, Form] = {"epoch": "pooled", "additive": "additive"}
WIDTH, GENES, BAG_TILES = 1280, 20_000, 50_000
_LOOPED_GENES = 200


def peak_gib() -> float:
    """Return the largest resident memory of this process until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def make_features(folder: Path, slides: int, tiles: int) -> list[Path]:
    """Write random float16 features, as far as they are missing; return their files."""
    spec = TileSpec.for_slide(PatchSize(112, 0.69), slide_mpp=0.69, level_downsamples=[1.0])
    paths = [folder / f"S{index:04d}.h5" for index in range(slides)]
    values = np.random.default_rng(0).standard_normal((tiles, WIDTH)).astype(np.float16)
    coords = np.zeros((tiles, 2), dtype=np.int64)
    for path in Progress(
        [path for path in paths if not path.is_file()], desc="features", unit="slide"
    ):
        slide = TileSet(path.stem, coords, np.ones(tiles, np.float32), spec, (112, 112))
        write_features(path, values, slide, encoder="toy")
    return paths


def large_bag() -> dict[str, float]:
    """Measure forward and backward pass of one bag of 50,000 tiles and 20,000 genes."""
    before = peak_gib()
    model = SlideRegressor(WIDTH, GENES, MilConfig())
    features = torch.randn(1, BAG_TILES, WIDTH)
    mask = torch.ones(1, BAG_TILES, dtype=torch.bool)
    start = time.perf_counter()
    model(features, mask).expression.square().mean().backward()
    return {
        "seconds": time.perf_counter() - start,
        "peak_gib": peak_gib(),
        "peak_before_gib": before,
    }


def encoding_from_slide(folder: Path, encoder: str, *, rounds: int = 3) -> dict[str, float]:
    """Compare encoding a synthetic slide with encoding its tiles from memory.

    The two take turns; the result has the medians over the rounds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "slide.tiff"
    write_pyramid(path, picture(SLIDE_UM, SLIDE_MPP), mpp=SLIDE_MPP)
    entry = SlideEntry("slide", "patient", path, None)
    tiles = tile_slide(entry, TileSettings(), folder)
    options = EncoderOptions(untrained=True)
    settings = EncodeSettings(encoder, encoder_options=options)
    opened = open_encoder(encoder, **options.as_arguments())
    source, device = TileSource({"slide": entry}, folder), torch.device("cpu")
    with source.open(tiles, settings.batch_size) as batches:
        ready = list(batches)
    streamed, in_memory = [], []
    for number in range(rounds):
        start = time.perf_counter()
        encode_tiles(opened, ready, device=device, precision=settings.precision)
        in_memory.append(time.perf_counter() - start)
        start = time.perf_counter()
        encode_cohort(["slide"], source, settings, folder / f"features{number}")
        streamed.append(time.perf_counter() - start)
    slide, memory = float(np.median(streamed)), float(np.median(in_memory))
    return {
        "tiles": len(tiles),
        "from_slide_s": slide,
        "from_memory_s": memory,
        "encoder_busy": memory / slide,
    }


def gene_statistics(refits: int, *, patients: int = 1000, genes: int = GENES) -> dict[str, float]:
    """Measure r within folds and p from null replicates, beside a loop over scipy's pearsonr."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((patients, genes)).astype(np.float32)
    predicted = (0.2 * truth + rng.standard_normal((patients, genes))).astype(np.float32)
    fold_of = np.repeat(np.arange(5), patients // 5)
    # A replicate is a shifted view of the doubled array, which costs no copy.
    again = np.concatenate([predicted, predicted])
    null = np.empty((refits, genes), dtype=np.float32)
    start, worked = time.perf_counter(), time.process_time()
    for row in Progress(range(refits), desc="null", unit="replicate"):
        shift = 1 + row % (patients - 1)
        null[row] = combined_r(truth, again[shift : shift + patients], fold_of).z
    null_p_values(combined_r(truth, predicted, fold_of).z, null)
    # The time of all cores shows the work also where other programs slow the machine down.
    seconds, cpu = time.perf_counter() - start, time.process_time() - worked
    start = time.perf_counter()
    for gene in range(_LOOPED_GENES):
        for fold in range(5):
            pearsonr(truth[fold_of == fold, gene], predicted[fold_of == fold, gene])
    loop = (time.perf_counter() - start) * genes / _LOOPED_GENES
    return {
        "replicates": refits,
        "seconds": seconds,
        "cpu_s": cpu,
        "one_replicate_s": seconds / (refits + 1),
        "scipy_loop_s": loop,
        "times_faster": loop * (refits + 1) / seconds,
    }


def main() -> None:
    """Run the parts asked for and write mil.json."""
    use_threads_of_command()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--features", type=Path, default=None)
    parser.add_argument("--slides", type=int, default=500)
    parser.add_argument("--tiles", type=int, default=4000)
    parser.add_argument("--genes", type=int, default=GENES)
    parser.add_argument("--refits", type=int, default=1000)
    parser.add_argument("--null-refits", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", default="timm:tcgn_tiny")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    measured: dict[str, object] = {
        "threads": torch.get_num_threads(),
        "slides": given.slides,
        "tiles": given.tiles,
        "width": WIDTH,
        "genes": given.genes,
    }
    folder = given.features or given.out / "features"
    for part, form in FORM_OF.items():
        if part in given.only:
            paths = make_features(folder, given.slides, given.tiles)
            measured[part] = compare_epochs(
                paths, WIDTH, given.genes, form=form, rounds=given.rounds
            )
    if "refits" in given.only:
        measured["refits"] = refits_of_a_fold(given.out / "vectors", given.null_refits)
    if "large_bag" in given.only:
        measured["large_bag"] = large_bag()
    if "encoding" in given.only:
        measured["encoding"] = encoding_from_slide(given.out / "slide", given.encoder)
    if "statistics" in given.only:
        measured["statistics"] = gene_statistics(given.refits)
    write_json(given.out / "mil.json", measured)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
