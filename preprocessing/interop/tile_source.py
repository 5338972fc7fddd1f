"""Find and read the tiles of slides, for code that encodes or explains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import LeftOut
from tcgn_mil.preprocessing.interop.tile_readers import (
    find_tile_file,
    read_any_tiles,
    read_own_tiles,
)
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.slides.table import SlideEntry, search_slides
from tcgn_mil.preprocessing.tiles.pixels import centre_tile, iter_tiles
from tcgn_mil.text import composed, preview
from tcgn_mil.types.tile_geometry import PatchSize
from tcgn_mil.types.tile_pixels import TileBatches
from tcgn_mil.types.tiles import TileSet


@dataclass(frozen=True)
class TileSource:
    """The slides of a cohort, together with the folder of their tile files.

    Nothing is opened until :meth:`find` or :meth:`open` is called.

    Parameters
    ----------
    entries
        Slide id -> slide.
    tiles
        Folder of tile files, in any layout that :func:`~.tile_readers.read_any_tiles` reads. It is
        needed by :meth:`find` only.
    left_out
        Files of the folder of slides that are left out, with the reason.
    """

    entries: Mapping[str, SlideEntry]
    tiles: Path | None = None
    left_out: tuple[LeftOut, ...] = ()

    @classmethod
    def from_slides(
        cls,
        slides: str | Path,
        *,
        tiles: str | Path | None = None,
        mpp: float | None = None,
        override_mpp: bool = False,
        recursive: bool = False,
    ) -> TileSource:
        """Collect the slides of a file, a folder or a table.

        Parameters
        ----------
        slides, mpp, override_mpp, recursive
            As in :func:`~tcgn_mil.preprocessing.slides.table.search_slides`.
        tiles
            Folder of tile files.

        Raises
        ------
        InputError
            If there are no slides, or two slides share an id.
        """
        found = search_slides(slides, mpp=mpp, override_mpp=override_mpp, recursive=recursive)
        entries = {entry.slide_id: entry for entry in found.entries}
        return cls(entries, None if tiles is None else Path(tiles), (*found.left_out,))

    def find(self, slide_id: str) -> TileSet:
        """Read the tile positions of one slide from the folder of tile files.

        Raises
        ------
        InputError
            If the slide is not among `entries`, or its tile file is missing, damaged or of another
            slide.
        """
        if self.tiles is None:
            raise ValueError("find() needs the folder of tile files: TileSource(..., tiles=folder)")
        return read_slide_tiles(self.tiles, self._entry(slide_id))

    @contextmanager
    def open(self, tiles: TileSet, batch_size: int) -> Iterator[TileBatches]:
        """Open the slide that `tiles` belong to, and give its tiles in batches.

        Parameters
        ----------
        tiles
            Tiles to read, all or some of a slide, in this order.
        batch_size
            Tiles in a batch; the last batch may have fewer.

        Returns
        -------
        A context manager. It gives an iterable of pixels (B, tile_px, tile_px, 3) uint8 and level-0
        corners (B, 2) int64, and closes the slide at the end of the block.

        Raises
        ------
        InputError
            If the slide is not among `entries`, cannot be read, or is not the slide on which the
            tiles were laid, by its size in pixels or by the digest that the tiles state.
        """
        with self.open_slide_of(tiles) as slide:
            yield iter_tiles(slide, tiles.coords, tiles.spec, batch_size, stain=tiles.stain)

    @contextmanager
    def open_slide_of(self, tiles: TileSet) -> Iterator[Slide]:
        """Open the slide that `tiles` belong to, and close it at the end of the block.

        Raises
        ------
        InputError
            As :meth:`open`.
        """
        entry = self._entry(tiles.slide_id)
        check_same_slide(entry, tiles)
        with entry.open() as slide:
            if tuple(slide.size) != tuple(tiles.slide_size):
                raise InputError(
                    f"the slide is {slide.size} px, its tiles were laid on {tiles.slide_size} px",
                    path=entry.path,
                    fix="tile it again, or give the slide that the tiles were made from",
                )
            yield slide

    def digest(self, slide_id: str) -> str:
        """Return the digest of a slide's files; empty if the slide is not among `entries`.

        Raises
        ------
        InputError
            If the file is missing or empty.
        """
        return self.entries[slide_id].digest() if slide_id in self.entries else ""

    def _entry(self, slide_id: str) -> SlideEntry:
        if slide_id not in self.entries:
            raise InputError(
                f"slide {slide_id} is not among the slides given ({preview([*self.entries])})",
                fix="give a folder or table of slides that includes it",
            )
        return self.entries[slide_id]


def check_same_slide(entry: SlideEntry, tiles: TileSet) -> None:
    """Check that a slide is the one on which tiles were laid, by the digest that they state.

    Raises
    ------
    InputError
        If it changed since, or is missing. Tiles of other tools state no digest, and pass.
    """
    if tiles.slide_digest and entry.digest() != tiles.slide_digest:
        raise InputError(
            "changed since its tiles were laid, so that they may lie beside the tissue",
            path=entry.path,
            fix="run tcgn-mil tile again, which lays new tiles on what changed",
        )


def read_slide_tiles(folder: str | Path, entry: SlideEntry) -> TileSet:
    """Read the tile positions of a slide from a folder in any layout.

    The slide itself is opened only for files of other tools, because those files do not say how
    large a tile is in micrometres.

    Raises
    ------
    InputError
        If there is no tile file or more than one, the file is of another slide, or the slide cannot
        be opened.
    """
    stem = entry.file_stem
    path = find_tile_file(folder, [entry.slide_id, stem, composed(stem)])
    tiles = read_own_tiles(path)
    if tiles is not None:
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


def read_centre_tile(
    path: str | Path, patch: PatchSize, *, mpp: float | None = None, override_mpp: bool = False
) -> NDArray[np.uint8]:
    """Read the centre of an image at a given physical size.

    Parameters
    ----------
    path
        Slide or plain image.
    patch
        Size of the tile in pixels, and its resolution in µm per pixel.
    mpp
        µm per pixel of the image, if its file does not say.
    override_mpp
        Use `mpp` in spite of the file.

    Returns
    -------
    (patch.px, patch.px, 3) uint8 RGB

    Raises
    ------
    InputError
        If the image cannot be read, has no known resolution, or is smaller than the tile.
    """
    path = Path(path)
    with open_slide(path, mpp=mpp, override_mpp=override_mpp) as slide:
        tiles = centre_tile(path.name, slide.size, slide.mpp, slide.level_downsamples, patch)
        ((pixels, _),) = iter_tiles(slide, tiles.coords, tiles.spec, 1)
    return pixels[0]
