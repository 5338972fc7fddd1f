"""Where slide readers meet what encodes and explains: functions that read pixels, to hand to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.interop.cohort_tiles import read_slide_tiles
from tcgn_mil.preprocessing.slides.readers.base import open_slide
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.types.tiles import PatchSize, TileSet


def tile_finder(entries: Mapping[str, SlideEntry], folder: str | Path) -> Callable[[str], TileSet]:
    """A function that finds the tiles of one slide in a folder of any known layout, for :func:`encode_cohort`."""
    return lambda slide: read_slide_tiles(folder, entries[slide])


def tile_reader(entries: dict[str, Any]) -> Any:
    """A function that opens the tiles of one slide as batches of pixels, for :func:`encode_cohort`."""

    @contextmanager
    def open_tiles(tiles: TileSet, batch_size: int) -> Iterator[Iterable[Any]]:
        entry = entries[tiles.slide_id]
        with entry.open() as slide:
            if tuple(slide.size) != tuple(tiles.slide_size):
                raise InputError(
                    f"the slide is {slide.size} px, its tiles were laid on {tiles.slide_size} px",
                    path=entry.path,
                    fix="tile it again, or give the slide that the tiles were made from",
                )
            yield iter_tiles(slide, tiles.coords, tiles.spec, batch_size, stain=tiles.stain)

    return open_tiles


def centre_reader(path: Path, mpp: float | None) -> Any:
    """A function that reads the centre of a picture at a physical size, for ``tcgn-mil explain``."""
    from tcgn_mil.experiments.explain.pictures import centre_tile

    def read(patch: PatchSize) -> Any:
        with open_slide(path, mpp=mpp) as slide:
            tiles = centre_tile(path.name, slide.size, slide.mpp, slide.level_downsamples, patch)
            return next(iter_tiles(slide, tiles.coords, tiles.spec, 1))[0][0]

    return read


def pixel_source(slides: str, tiles: str, mpp: float | None) -> Any:
    """What finds and reads the tiles of slides, for :func:`tcgn_mil.experiments.slide_level.run.run`."""
    from tcgn_mil.experiments.slide_level.tune_encoder import PixelSource
    from tcgn_mil.preprocessing.slides.table import find_slides

    entries = {entry.slide_id: entry for entry in find_slides(slides, mpp=mpp)}
    find = tile_finder(entries, tiles)

    def tiles_of(slide: str) -> TileSet:
        if slide not in entries:
            raise InputError(
                f"slide {slide} is not among the slides", path=slides, fix="add it to them"
            )
        return find(slide)

    return PixelSource(tiles_of, tile_reader(entries))
