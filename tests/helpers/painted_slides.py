"""Small slides of random colours with tile files, for tests that read in several processes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
from tile_sets import tile_set

from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.io.tile_files import write_tiles
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

PX, ACROSS, DOWN = 32, 4, 5
PATCH = PatchSize(PX, 0.5)


class DeadlyEntry(SlideEntry):
    """A slide that kills the process that opens it, as the out-of-memory killer does."""

    def open(self) -> Slide:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def paint(folder: Path, slide: str, seed: int, *, patient: str = "") -> SlideEntry:
    """Write a slide of 20 tiles and its tile file in ``<folder>/tiles``."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(40, 220, (DOWN * PX // 8, ACROSS * PX // 8, 3), dtype=np.uint8)
    path = folder / "slides" / f"{slide}.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pyramid(path, colours.repeat(8, axis=0).repeat(8, axis=1), mpp=0.5)
    with open_slide(path) as opened:
        spec = TileSpec.for_slide(
            PATCH, slide_mpp=opened.mpp, level_downsamples=opened.level_downsamples
        )
        size = tuple(opened.size)
    corners = np.stack(np.meshgrid(np.arange(ACROSS), np.arange(DOWN)), axis=-1).reshape(-1, 2)
    tiles = replace(tile_set(corners * PX, spec, slide, patient), slide_size=size)
    write_tiles(folder / "tiles" / f"{slide}.h5", tiles, slide_file=path.name)
    return SlideEntry(slide, patient or slide, path)


def paint_cohort(folder: Path, slides: str) -> TileSource:
    """Paint one slide for each letter; the slide of a capital letter kills its reader."""
    entries = {}
    for seed, name in enumerate(slides):
        entry = paint(folder, name, seed)
        kind = DeadlyEntry if name.isupper() else SlideEntry
        entries[name] = kind(entry.slide_id, entry.patient_id, entry.path)
    return TileSource(entries, folder / "tiles")
