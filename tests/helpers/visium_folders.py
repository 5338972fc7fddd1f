"""Read and change folders of Space Ranger that a fixture makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tcgn_mil.preprocessing.sections.raw_section import RawSection, ReadSettings
from tcgn_mil.preprocessing.sections.readers.tenx.visium import read_section
from tcgn_mil.types.tile_geometry import PatchSize

MakeVisium = Callable[..., Path]
PATCH = PatchSize(16, 1.0)
POSITIONS = "spatial/tissue_positions.csv"


def read(folder: Path, **settings: object) -> RawSection:
    image = settings.pop("image", None)
    chosen = ReadSettings(PATCH, **settings)  # type: ignore[arg-type]
    return read_section(folder, chosen, section="S1", patient="P1", image=image)  # type: ignore[arg-type]


def full_image(folder: Path) -> Path:
    return folder.with_suffix(".png")


def edit_positions(folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    change(pd.read_csv(folder / POSITIONS)).to_csv(folder / POSITIONS, index=False)
