"""Compute what a large cohort would take, from unit costs that were measured on two cores.

    python -m tcgn_mil.experiments.benchmarks.scale.plan [--slides 11000] [--cores 2000]

The table is for ``docs/guides/large_cohorts.md``. Nothing of it was run at that size. The work is
taken as shared without loss among the cores, and the disk as fast enough.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tcgn_mil.models.encoders.architecture import Architecture, build_trunk
from tcgn_mil.pathology import PATHOLOGY_ENCODERS

_HOUR, _GB = 3600, 1e9
# Positions and colour statistics of a tile, as a feature file stores them beside the features.
_TILE_BYTES = 2 * 8 + 30 * 4


@dataclass(frozen=True)
class UnitCosts:
    """Measured costs and the assumed size of a slide.

    Attributes
    ----------
    tissue_mm2
        Tissue of a slide; an assumption.
    tiles_per_mm2
        Tiles of 112 µm in a square millimetre of tissue, measured on five her2st sections.
    tile_s, tile_s_per_mm2
        Core seconds of ``tile`` for a slide of 100,000 x 80,000 px, and for the quality of its
        tissue: five her2st sections with 47 mm² took 7 s, with the start of the program.
    encode_s
        Core seconds of one tile by encoder: twice the seconds that two cores took.
    train_s, validate_s
        Core seconds of one tile in a training epoch and in the prediction after it.
    epochs, folds, max_tiles
        Defaults of ``slide-cv``. All epochs are counted, although training may stop earlier.
    """

    tissue_mm2: float = 150
    tiles_per_mm2: float = 86
    tile_s: float = 4.6
    tile_s_per_mm2: float = 7 / 47
    encode_s: tuple[tuple[str, float], ...] = (
        ("kaiko-vits16", 0.10),
        ("uni", 1.24),
        ("virchow2", 4.90),
        ("uni2-h", 5.76),
    )
    train_s: float = 1.84 / 200_000
    validate_s: float = 1.1 / 200_000
    epochs: int = 60
    folds: int = 5
    max_tiles: int = 2000

    @property
    def tiles(self) -> float:
        """Tiles of a slide."""
        return self.tissue_mm2 * self.tiles_per_mm2


@dataclass(frozen=True)
class StageCost:
    """Cost of a stage.

    Attributes
    ----------
    stage
        Its name.
    core_hours
        Time of all cores.
    stored_gb
        What it leaves on the disk, where that counts.
    most_cores
        Cores that it can use; None if each slide may have a core.
    """

    stage: str
    core_hours: float
    stored_gb: float | None = None
    most_cores: int | None = None

    def hours(self, cores: int) -> float:
        """Return the time by the clock on a number of cores."""
        return self.core_hours / min(cores, self.most_cores or cores)


def stages(slides: int, unit: UnitCosts) -> list[StageCost]:
    """Return the cost of each stage.

    Parameters
    ----------
    slides
        Slides of the cohort, each of a patient of its own.
    unit
        Costs of a slide and of a tile.

    Examples
    --------
    >>> [round(stage.core_hours) for stage in stages(11_000, UnitCosts())][:2]
    [82, 3942]
    """
    tiles = slides * unit.tiles
    tiling = slides * (unit.tile_s + unit.tile_s_per_mm2 * unit.tissue_mm2)
    encodes = [
        StageCost(
            f"encode, {name}",
            tiles * seconds / _HOUR,
            tiles * (2 * PATHOLOGY_ENCODERS[name].width + _TILE_BYTES) / _GB,
        )
        for name, seconds in unit.encode_s
    ]
    validated = slides / unit.folds * unit.tiles * unit.validate_s
    epoch = slides * min(unit.tiles, unit.max_tiles) * unit.train_s + validated
    training = StageCost(
        "slide-cv, no refits", unit.folds * unit.epochs * epoch / _HOUR, most_cores=2
    )
    return [StageCost("tile", tiling / _HOUR), *encodes, training]


def gigaflops(name: str) -> float:
    """Return the operations (10⁹) for one tile, counted on the encoder without its weights.

    A multiplication and the addition that follows count as two, as in
    ``experiments/results/backbone_speed.md``.
    """
    entry = PATHOLOGY_ENCODERS[name]
    with torch.device("meta"):
        model = build_trunk(Architecture("timm", entry.architecture, None, entry.arguments)).eval()
        image = torch.empty(1, 3, entry.input_px, entry.input_px)
    # Not every version of torch counts the fused attention; all count plain products.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(image)
    return counter.get_total_flops() / 1e9


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=int, default=11_000)
    parser.add_argument("--cores", type=int, default=2000)
    parser.add_argument("--price", type=float, help="price of one core for one hour")
    given = parser.parse_args()
    unit = UnitCosts()
    print(f"| stage | core hours | hours on {given.cores:,} cores | stored | price |")
    print("|---|---|---|---|---|")
    for stage in stages(given.slides, unit):
        stored = "" if stage.stored_gb is None else f"{stage.stored_gb:,.0f} GB"
        price = "" if given.price is None else f"{given.price * stage.core_hours:,.0f}"
        hours = f"{stage.hours(given.cores):,.2f}" + (" on 2" if stage.most_cores else "")
        print(f"| {stage.stage} | {stage.core_hours:,.0f} | {hours} | {stored} | {price} |")
    print("\n| encoder | GFLOP per tile |\n|---|---|")
    for name, _ in unit.encode_s:
        print(f"| {name} | {gigaflops(name):,.0f} |")


if __name__ == "__main__":
    main()
