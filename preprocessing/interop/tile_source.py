"""Where slide readers meet what encodes and explains: functions that read pixels, to hand to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tcgn_mil.batches.pixel_bags import OpenTiles
from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.interop.tile_readers import find_tile_file, read_any_tiles, tile_layout
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.types.tiles import TileSet


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


def pixel_source(slides: str, tiles: str, mpp: float | None) -> Any:
    """What finds and reads the tiles of slides, for :func:`tcgn_mil.experiments.slide_level.run.run`."""
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


class PixelSource(NamedTuple):
    """What finds a slide's tiles by its id (InputError where there are none), and what reads them."""

    tiles_of: Callable[[str], TileSet]
    open_tiles: OpenTiles


def read_slide_tiles(folder: str | Path, entry: SlideEntry) -> TileSet:
    """A slide's tiles from a folder of any layout; the slide itself is opened only for other tools' files.

    Raises
    ------
    InputError
        If there is no file or several, it is of another slide, or the slide cannot be opened.
    """
    stem = entry.path.stem.removesuffix(".ome")
    path = find_tile_file(folder, [entry.slide_id, stem])
    if tile_layout(path) == "tcgn-mil":
        tiles = read_any_tiles(path)
        if tiles.slide_id != entry.slide_id:
            raise InputError(
                f"is of slide {tiles.slide_id!r}, not {entry.slide_id!r}",
                path=path,
                fix="tile the slide again",
            )
        return tiles
    with entry.open() as slide:
        return read_any_tiles(
            path, slide, slide_id=entry.slide_id, patient_id=entry.patient_id, file_name=stem
        )


def _own(folder: str | Path) -> list[Path]:
    found = [path for path in sorted(Path(folder).glob("*.h5")) if not path.name.startswith(".")]
    if not found:
        raise InputError(
            "holds no tile file (*.h5)",
            path=folder,
            fix="give the folder that tcgn-mil tile wrote; for other tools' folders give the slides too (--slides)",
        )
    return found
