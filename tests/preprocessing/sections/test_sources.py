"""Sections are found in layouts that are registered, also from outside."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy import sparse

from tcgn_mil.preprocessing.sections import readers
from tcgn_mil.preprocessing.sections.genes import name_counts
from tcgn_mil.preprocessing.sections.raw_section import (
    RawSection,
    ReadSettings,
    SectionImage,
    SectionSource,
)
from tcgn_mil.preprocessing.sections.readers import register_section_reader
from tcgn_mil.preprocessing.sections.readers.base import SectionReader, SectionRequest
from tcgn_mil.preprocessing.sections.sources import detect_format, find_section_sources
from tcgn_mil.types.tile_geometry import PatchSize


def read(path: Path, settings: ReadSettings) -> RawSection:
    table = pd.read_csv(path / "spots.txt", index_col=0)
    positions = table[["x", "y", "pixel_x", "pixel_y"]]
    counts, genes = name_counts(sparse.csr_matrix(table[["CD3D"]]), ["CD3D"], by=settings.gene_ids)
    image = SectionImage(path / "image.png")
    return RawSection(path.name, path.name, counts, genes, positions, 0.5, image, dropped=[])


def find(path: Path, request: SectionRequest) -> list[SectionSource]:
    files = (path / "spots.txt", path / "image.png")
    return [SectionSource(request.section or path.name, lambda: files, partial(read, path))]


@patch.dict(readers.READERS)
def test_door_a_layout_is_added_from_outside(tmp_path: Path) -> None:
    register_section_reader(
        SectionReader("text", "spots.txt", lambda path: (path / "spots.txt").is_file(), find)
    )
    (tmp_path / "S1").mkdir()
    (tmp_path / "S1" / "spots.txt").write_text("spot,x,y,pixel_x,pixel_y,CD3D\na,1,2,10,20,7\n")
    assert detect_format(tmp_path / "S1") == "text"
    (source,) = find_section_sources(tmp_path / "S1", sections=["S1"])
    raw = source.read(ReadSettings(PatchSize(16, 1.0)))
    np.testing.assert_array_equal(raw.centres(), [[10, 20]])
    assert raw.totals().tolist() == [7]
