"""Measure the work on the metadata of thousands of slides, each part in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tcgn_mil.experiments.benchmarks.scale.many_slides import ENCODER, make_metadata
from tcgn_mil.experiments.benchmarks.scale.process_cost import cost_of, verb
from tcgn_mil.io.feature_files import find_features, read_feature_info
from tcgn_mil.preprocessing.slides.table import find_slides
from tcgn_mil.preprocessing.tiles.cohort import current_tiles
from tcgn_mil.preprocessing.tiles.contact_sheet import write_contact_sheet
from tcgn_mil.preprocessing.tiles.settings import TileSettings

AIM_S, AIM_MIB = 60.0, 2048.0


def _nothing(folder: Path) -> int:
    return len(list((folder / "tiles").glob("*.h5")))


def _slides_table(folder: Path) -> int:
    return len(find_slides(folder / "slides.csv"))


def _slides_folder(folder: Path) -> int:
    return len(find_slides(folder / "slides"))


def _resume_check(folder: Path) -> int:
    entries = find_slides(folder / "slides.csv")
    return len(current_tiles(entries, TileSettings(), folder / "tiles"))


def _contact_sheet(folder: Path) -> int:
    write_contact_sheet(folder / "tiles")
    return len(list((folder / "tiles").glob("*.h5")))


def _feature_facts(folder: Path) -> int:
    return len([read_feature_info(path) for path in find_features(folder / "features").values()])


# Each returns the number of slides that it dealt with, by which a wrong measurement is noticed.
PARTS: dict[str, Callable[[Path], int]] = {
    "start of the program": _nothing,
    "slides table": _slides_table,
    "folder of slides": _slides_folder,
    "resume check of tiles": _resume_check,
    "contact sheet": _contact_sheet,
    "facts of feature files": _feature_facts,
}


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
        part: [sys.executable, "-m", __spec__.name, str(folder), part] for part in PARTS
    } | verbs(folder)
    measured: dict[str, Any] = {"slides": count}
    for number, (part, command) in enumerate(tqdm(commands.items(), unit="part")):
        cost = cost_of(command, folder / f"part{number}.log")
        within = cost.cpu_s <= AIM_S and cost.peak_mib <= AIM_MIB
        measured[part] = {**cost._asdict(), "within_aim": within}
    measured["contact_sheet_mb"] = (folder / "tiles" / "contact_sheet.html").stat().st_size / 1e6
    return measured


if __name__ == "__main__":
    print(PARTS[sys.argv[2]](Path(sys.argv[1])))
