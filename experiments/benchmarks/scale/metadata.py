"""Measure the work on the metadata of thousands of slides, each part in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tcgn_mil.experiments.benchmarks.scale import metadata_parts
from tcgn_mil.experiments.benchmarks.scale.many_slides import ENCODER, make_metadata
from tcgn_mil.experiments.benchmarks.scale.metadata_parts import PARTS
from tcgn_mil.experiments.benchmarks.scale.process_cost import cost_of, verb

AIM_S, AIM_MIB = 60.0, 2048.0


def verbs(folder: Path) -> dict[str, list[str]]:
    """Return the commands that have nothing left to do, and the join."""
    table, tiles = folder / "slides.csv", folder / "tiles"
    encoder = ("--encoder", ENCODER, "--untrained", "--device", "cpu")
    out = folder / "cohort.h5ad"
    join = ("--unit", "tpm", "--slides", table, "--out", out)
    return {
        "join (bulk)": verb("bulk", folder / "expression.parquet", *join),
        "tile, all done": verb("tile", table, "--out", tiles),
        "encode, all done": verb(
            "encode", table, "--tiles", tiles, *encoder, "--out", folder / "features"
        ),
    }


def measure_metadata(folder: Path, count: int) -> dict[str, Any]:
    """Return the cost of each part, with whether it is within a minute and 2 GiB.

    Parameters
    ----------
    folder
        Folder for the files, which are made if they are missing.
    count
        Number of slides.
    """
    make_metadata(folder, count)
    commands = {
        part: [sys.executable, "-m", metadata_parts.__name__, str(folder), part] for part in PARTS
    } | verbs(folder)
    measured: dict[str, Any] = {"slides": count}
    for number, (part, command) in enumerate(tqdm(commands.items(), unit="part")):
        cost = cost_of(command, folder / f"part{number}.log")
        within = cost.cpu_s <= AIM_S and cost.peak_mib <= AIM_MIB
        measured[part] = {**cost._asdict(), "within_aim": within}
    measured["contact_sheet_mb"] = (folder / "tiles" / "contact_sheet.html").stat().st_size / 1e6
    return measured
