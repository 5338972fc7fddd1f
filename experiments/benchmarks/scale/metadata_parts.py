"""Parts of the work on metadata, without torch; each runs in a process of its own.

python -m tcgn_mil.experiments.benchmarks.scale.metadata_parts FOLDER PART
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tcgn_mil.io.feature_files import find_features, read_feature_info
from tcgn_mil.preprocessing.slides.table import find_slides
from tcgn_mil.preprocessing.tiles.cohort import current_tiles
from tcgn_mil.preprocessing.tiles.contact_sheet import write_contact_sheet
from tcgn_mil.preprocessing.tiles.settings import TileSettings


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


if __name__ == "__main__":
    print(PARTS[sys.argv[2]](Path(sys.argv[1])))
