"""Measure how the cost of a cohort grows with its slides.

    python -m tcgn_mil.experiments.benchmarks.scale chain --out measured --sizes 10 40 160
    python -m tcgn_mil.experiments.benchmarks.scale metadata --out measured --slides 10000

``chain`` runs tile, encode, bulk, finetune, predict and report on synthetic slides and writes
chain.json and chain.png. ``metadata`` times what is done for every slide without its pixels and
writes metadata.json. Seconds of all cores ("cpu") are less disturbed by other programs than seconds
by the clock.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tcgn_mil.experiments.benchmarks.scale.chain import STAGES, measure_chain
from tcgn_mil.experiments.benchmarks.scale.figure import draw_chain
from tcgn_mil.experiments.benchmarks.scale.metadata import measure_metadata
from tcgn_mil.io.atomic import write_json


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("chain", "metadata"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 40, 160])
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=STAGES, help="stages of chain to run"
    )
    parser.add_argument("--slides", type=int, default=10_000)
    parser.add_argument("--encoder", default="timm:resnet10t")
    given = parser.parse_args()
    if given.part == "chain":
        measured = measure_chain(
            given.out / "chain", given.encoder, sorted(given.sizes), given.stages
        )
        draw_chain(measured, given.out / "chain.png")
    else:
        measured = measure_metadata(given.out / f"metadata{given.slides}", given.slides)
    write_json(given.out / f"{given.part}.json", measured)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
