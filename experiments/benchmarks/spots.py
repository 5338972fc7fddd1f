"""Measure the calibration and speed of the spot-level statistics, and the speed of loading.

    python -m tcgn_mil.experiments.benchmarks.spots --her2st her2st --steps-on spots --out measured

Calibration: pairs of independent smooth random fields are made on the lattice of each section, and
a smooth depth is taken out of both. 5 % of the pairs should have p < 0.05 (docs/protocol.md,
section Calibration). A t-test that takes the spots for independent is shown beside it. Loading: a
training step on patches that are read from disk and augmented is compared with the same step on
batches that are ready in memory; the two take turns, so that both see the same machine. Writes
calibration.csv, calibration.png and speed.json. The cores should be idle.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import t as students_t

from tcgn_mil import plotting
from tcgn_mil.batches.spots import SpotBatches
from tcgn_mil.io.atomic import write_csv, write_json
from tcgn_mil.models.encoders import create_encoder
from tcgn_mil.models.network_input import TCGN_INPUT, to_network_input
from tcgn_mil.preprocessing.sections.readers.her2st import find_section_files
from tcgn_mil.statistics.bootstrap import block_bootstrap
from tcgn_mil.statistics.gene_metrics import pearson
from tcgn_mil.statistics.sequencing_depth import depth_adjusted_pearson
from tcgn_mil.statistics.spatial import SpatialTest, lattice_step, spatial_blocks
from tcgn_mil.training.losses import expression_loss
from tcgn_mil.training.optimizer import make_optimizer

# Kind of correlation, its scale in lattice steps, and the share of variance without correlation.
FIELDS = (
    ("exponential", 1.0, 0.0),
    ("exponential", 3.0, 0.0),
    ("exponential", 6.0, 0.0),
    ("gaussian", 2.0, 0.0),
    ("gaussian", 4.0, 0.0),
    ("gaussian", 3.0, 0.5),
    ("exponential", 4.0, 0.9),
)
# Networks, and the side of their input in pixels.
NETWORKS = {"resnet10t": 128, "tcgn_tiny": 224}
BATCH, STEPS = 32, 8
DEPTH = ("gaussian", 4.0, 0.2)


def smooth_fields(
    positions: NDArray[np.float64],
    count: int,
    kind: str,
    scale: float,
    nugget: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return (S, count) independent Gaussian random fields of variance 1.

    Parameters
    ----------
    positions
        (S, 2) positions of the spots.
    count
        Number of fields.
    kind
        ``exponential`` or ``gaussian``: how the correlation falls with distance.
    scale
        Distance over which it falls, in lattice steps.
    nugget
        Share of the variance that has no spatial correlation, 0 to 1.
    rng
        Source of randomness.
    """
    distance = cdist(positions, positions) / (scale * lattice_step(positions))
    covariance = np.exp(-distance) if kind == "exponential" else np.exp(-np.square(distance) / 2)
    root = np.linalg.cholesky(covariance + 1e-8 * np.eye(len(positions)))
    noise = rng.standard_normal((2, len(positions), count))
    return np.asarray(np.sqrt(1 - nugget) * root @ noise[0] + np.sqrt(nugget) * noise[1])


def calibrate(
    lattices: dict[str, NDArray[np.float64]], pairs: int
) -> tuple[pd.DataFrame, dict[str, NDArray[np.float64]]]:
    """Test independent fields on each lattice.

    Returns a table with one row per section and kind of field, and all p-values by test.
    """
    rows: list[dict[str, Any]] = []
    values: dict[str, list[NDArray[np.float64]]] = {
        "modified t-test": [],
        "spots taken for independent": [],
    }
    for number, (section, positions) in enumerate(lattices.items()):
        for kind, scale, nugget in FIELDS:
            rng = np.random.default_rng([number, FIELDS.index((kind, scale, nugget))])
            depth = smooth_fields(positions, 1, *DEPTH, rng)[:, 0]
            truth, prediction = (
                smooth_fields(positions, pairs, kind, scale, nugget, rng) for _ in range(2)
            )
            test = SpatialTest(positions, depth)(truth, prediction)
            freedom = len(positions) - 2
            naive = students_t.sf(test.r * np.sqrt(freedom / (1 - test.r**2)), freedom)
            values["modified t-test"].append(test.p)
            values["spots taken for independent"].append(naive)
            rows.append(
                {
                    "section": section,
                    "spots": len(positions),
                    "field": kind,
                    "scale_steps": scale,
                    "nugget": nugget,
                    "effective_n": np.median(test.effective_n),
                    "true_effective_n": 1 + 1 / test.r.var(),
                    "p_below_0.05": (test.p < 0.05).mean(),
                    "p_below_0.01": (test.p < 0.01).mean(),
                    "independent_p_below_0.05": (naive < 0.05).mean(),
                }
            )
    return pd.DataFrame(rows), {name: np.concatenate(parts) for name, parts in values.items()}


@plotting.styled
def draw_calibration(values: dict[str, NDArray[np.float64]], path: Path) -> None:
    """Draw p against the share of pairs at or below it; a calibrated test is on the diagonal."""
    figure, axes = plotting.subplots(1, 2, width=plotting.TWO_COLUMNS, height=3.2)
    for axis, logarithmic in zip(axes, (False, True), strict=True):
        for name, p in values.items():
            axis.plot(np.arange(1, len(p) + 1) / len(p), np.sort(p), label=name)
        axis.plot([0, 1], [0, 1], color="black", linewidth=0.7, linestyle=":")
        pairs = len(next(iter(values.values())))
        axis.set(
            xlabel=plotting.counted_label("share of independent pairs", pairs, "pairs"),
            ylabel="largest p of this share",
        )
        if logarithmic:
            axis.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-6, 1))
    axes[0].legend()
    plotting.save(figure, path)


def seconds(call: Callable[[], Any]) -> float:
    """Return the shortest time of three calls."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(min(times), 3)


def measure_speed(spots: int, genes: int) -> dict[str, float]:
    """Return the seconds of metrics, and of p-values and intervals of 785 genes x 1,000 spots."""
    rng = np.random.default_rng(0)
    truth, prediction = (rng.standard_normal((spots, genes), dtype=np.float32) for _ in range(2))
    depth = rng.normal(8, 1, spots)
    taken = {
        "pearson": seconds(lambda: pearson(truth, prediction)),
        "depth_adjusted_pearson": seconds(lambda: depth_adjusted_pearson(truth, prediction, depth)),
        "one read of both arrays": seconds(lambda: (truth.sum(), prediction.sum())),
    }
    side = np.arange(40.0)
    positions = np.stack(np.meshgrid(side, side[:25]), axis=-1).reshape(-1, 2)
    left, right = (rng.standard_normal((1000, 785)) for _ in range(2))
    test = SpatialTest(positions, rng.normal(8, 1, 1000))
    taken["p-values of 785 genes x 1,000 spots"] = seconds(
        lambda: SpatialTest(positions, rng.normal(8, 1, 1000))(left, right)
    )
    taken["intervals of the same, 1,000 replicates"] = seconds(
        lambda: block_bootstrap(
            test.residuals(left), test.residuals(right), spatial_blocks(positions)
        )
    )
    return taken


def measure_loading(folder: Path, *, rounds: int) -> dict[str, dict[str, float]]:
    """Return the seconds of a training step of each network on loaded and on ready patches.

    The ratio is given as median, least and most over the rounds.
    """
    from tcgn_mil.batches.spots import PatchesOnDisk, SectionRows
    from tcgn_mil.io.spot_files import find_sections as find_spots
    from tcgn_mil.settings.augmentation import AugmentConfig

    sections = []
    for path in find_spots(folder).values():
        patches = path.with_name(f"{path.stem}_patches.h5")
        with h5py.File(patches) as file:
            sections.append(SectionRows(patches, np.arange(len(file["img"]))))
    stored = PatchesOnDisk(sections)
    targets = np.random.default_rng(0).standard_normal((len(stored), 785)).astype(np.float32)
    batches = SpotBatches(stored, targets, batch_size=BATCH, seed=0, augment=AugmentConfig())
    return {
        name: _one_network(name, size_px, batches, rounds) for name, size_px in NETWORKS.items()
    }


def _one_network(name: str, size_px: int, batches: SpotBatches, rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    model = create_encoder(name, 785, input_px=size_px).train()
    optimizer = make_optimizer(model, "adamw", lr=1e-3, weight_decay=0.05)

    def steps(source: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
        start, count = time.perf_counter(), 0
        for patches, targets in source:
            optimizer.zero_grad(set_to_none=True)
            images = to_network_input(patches, TCGN_INPUT._replace(size_px=size_px))
            expression_loss(model(images), targets).backward()
            optimizer.step()
            count += 1
        return (time.perf_counter() - start) / count

    ready = list(itertools.islice(batches.epoch(0), STEPS))
    steps(ready)  # a warm-up that is not counted
    rows = []
    for number in range(rounds):
        before = steps(ready)
        loaded = steps(itertools.islice(batches.epoch(number), STEPS))
        # The steps on ready patches are timed before and after, so that neither always comes first.
        memory = (before + steps(ready)) / 2
        rows.append((memory, loaded, loaded / memory))
    memory, loaded, ratio = np.transpose(rows)
    return {
        "ready_s": round(float(np.median(memory)), 3),
        "loaded_s": round(float(np.median(loaded)), 3),
        "ratio": round(float(np.median(ratio)), 3),
        "least": round(float(ratio.min()), 3),
        "most": round(float(ratio.max()), 3),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--her2st", type=Path, help="folder of real sections; without it only speed is measured"
    )
    parser.add_argument(
        "--pairs", type=int, default=1000, help="pairs of fields per section and kind of field"
    )
    parser.add_argument("--spots", type=int, default=10_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument(
        "--steps-on", type=Path, help="folder of tcgn-mil spots; without it loading is not measured"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the training steps")
    parser.add_argument("--out", type=Path, default=Path("spots"))
    asked = parser.parse_args()
    if asked.her2st is not None:
        lattices = {}
        for files in find_section_files(asked.her2st):
            table = pd.read_csv(files.positions, sep="\t")
            lattices[files.section] = table[["pixel_x", "pixel_y"]].to_numpy(dtype=float)
        table, values = calibrate(lattices, asked.pairs)
        write_csv(asked.out / "calibration.csv", table, digits=None)
        draw_calibration(values, asked.out / "calibration.png")
        sys.stdout.write(table.round(3).to_string(index=False) + "\n")
    measured: dict[str, Any] = measure_speed(asked.spots, asked.genes)
    if asked.steps_on is not None:
        measured["seconds a training step"] = measure_loading(asked.steps_on, rounds=asked.rounds)
    write_json(asked.out / "speed.json", measured)
    sys.stdout.write(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
