"""Read the tiles of slides in several processes ahead of the encoder.

The processes are the workers of a torch DataLoader. They serve the whole cohort, so that the first
tiles of the next slide are read while the last ones of this slide are encoded. A slide is cut into
as many parts as there are processes, and each process reads its part from first to last, because
neighbouring tiles share compressed blocks of the slide. At most `AHEAD` batches a process are held,
whatever the size of a slide.

The batches are those of reading in one thread, so that the features are the same.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tcgn_mil.baselines import colour_statistics
from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure, unexpected
from tcgn_mil.io.hdf5 import check_pixels
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.parallel import end_with_parent
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.types.tiles import TileSet

STAGE = "encode"
AHEAD = 3  # batches that each process reads ahead
# Colour statistics are taken from every second pixel in both directions. They agree with those of
# all pixels to the third digit, and take a ninth of the time.
COLOUR_STEP_PX = 2
_SHARED_MEMORY = Path("/dev/shm")
_DEATH = "DataLoader worker (pid"


class ReadTiles(NamedTuple):
    """One batch of tiles of a slide, or the reason why it could not be read.

    Attributes
    ----------
    slide
        Name of the slide.
    first
        Row of the batch's first tile among the tiles of the slide.
    pixels
        (B, P, P, 3) uint8; empty after a failure.
    colour
        (B, 30) float32 colour statistics; None if the encoder's device computes them.
    failure
        None if the batch was read.
    """

    slide: str
    first: int
    pixels: Tensor
    colour: Tensor | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class _Request:
    """The tiles of one batch, and the row of the first one."""

    tiles: TileSet
    first: int


class _SlideTiles(Dataset[ReadTiles]):
    """Reads requests in a process that keeps the last slide open."""

    def __init__(self, source: TileSource, *, with_colour: bool) -> None:
        self.source, self.with_colour = source, with_colour
        self._name = ""
        self._slide: Slide | None = None
        self._stack = ExitStack()

    def __getitem__(self, request: _Request) -> ReadTiles:
        tiles = request.tiles
        try:
            return self._read(tiles, request.first)
        except Exception as error:  # whatever one slide does costs its own row only
            nothing = torch.empty(0, dtype=torch.uint8)
            failure = unexpected(error, tiles.slide_id, STAGE)
            return ReadTiles(tiles.slide_id, request.first, nothing, failure=failure)

    def _read(self, tiles: TileSet, first: int) -> ReadTiles:
        slide = self._open(tiles)
        batches = iter_tiles(slide, tiles.coords, tiles.spec, len(tiles), stain=tiles.stain)
        ((pixels, coords),) = batches
        check_tiles(pixels, coords, tiles.slide_id)
        colour = None
        if self.with_colour:
            step = COLOUR_STEP_PX
            colour = torch.from_numpy(colour_statistics(pixels[:, ::step, ::step]))
        return ReadTiles(tiles.slide_id, first, torch.from_numpy(pixels), colour)

    def _open(self, tiles: TileSet) -> Slide:
        if self._slide is None or self._name != tiles.slide_id:
            self._slide = None
            self._stack.close()
            self._slide = self._stack.enter_context(self.source.open_slide_of(tiles))
            self._name = tiles.slide_id
        return self._slide


def check_tiles(pixels: np.ndarray, coords: np.ndarray, slide: str) -> None:
    """Check that the pixels of tiles can be encoded; a message names the tile and the slide."""
    names = [f"tile {x}, {y} of slide {slide}" for x, y in coords.tolist()]
    check_pixels(pixels, names)


def read_ahead(
    source: TileSource,
    slides: Iterable[TileSet],
    *,
    readers: int,
    batch_size: int,
    dropped: set[str],
    pin: bool = False,
    with_colour: bool = True,
) -> Iterator[ReadTiles]:
    """Read the tiles of several slides in several processes.

    Parameters
    ----------
    source
        Opens the slides; it is sent to the processes.
    slides
        Tiles of each slide. A slide is asked for when its first batch is due, so that work that
        was done before this moment is seen.
    readers
        Number of processes.
    batch_size
        Tiles in a batch; the last batch of a slide may have fewer.
    dropped
        Slides of which no more is read. The caller may add to it.
    pin
        Put the pixels into pinned memory, from which a GPU copies without blocking.
    with_colour
        Compute the colour statistics of the tiles in the processes.

    Yields
    ------
    ReadTiles
        The batches, those of one slide after those of the slide before it.

    Raises
    ------
    InputError
        If the shared memory of the machine is too small.
    RuntimeError
        If a process dies; see :func:`is_death`.
    """

    def requests() -> Iterator[_Request]:
        for tiles in slides:
            check_shared_memory(tiles, batch_size, readers)
            for first in _order(len(tiles), batch_size, readers):
                if tiles.slide_id in dropped:
                    break
                yield _Request(tiles.select(slice(first, first + batch_size)), first)

    loader = DataLoader(
        _SlideTiles(source, with_colour=with_colour),
        batch_size=None,
        sampler=requests(),
        num_workers=readers,
        prefetch_factor=AHEAD,
        pin_memory=pin,
        multiprocessing_context=_processes(),
        worker_init_fn=_start_reader,
    )
    yield from loader


def _processes() -> BaseContext:
    """Return how processes are started.

    A process that is forked from this one, which has running threads, may hang. They are forked
    from a server process instead, which has loaded the modules, so that one starts in no time.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _order(count: int, batch_size: int, readers: int) -> list[int]:
    """Return the first rows of the batches, in the order in which they are asked for.

    Requests go to the processes in turn. So the first batch of each part is asked for, then the
    second one of each, and every process reads one part.

    Examples
    --------
    >>> _order(10, 2, 2)
    [0, 6, 2, 8, 4]
    """
    batches = -(-count // batch_size)
    parts = np.array_split(np.arange(batches) * batch_size, min(readers, max(1, batches)))
    longest = max(len(part) for part in parts)
    return [int(part[turn]) for turn in range(longest) for part in parts if turn < len(part)]


def _start_reader(_: int) -> None:
    cv2.setNumThreads(1)
    # DataLoader watches the parent of its workers, which here is the server that forked them. The
    # server in turn lives as long as they do.
    end_with_parent()


def is_death(error: BaseException) -> bool:
    """Return whether an error says that a process that reads tiles has died."""
    return isinstance(error, RuntimeError) and str(error).startswith(_DEATH)


def check_shared_memory(tiles: TileSet, batch_size: int, readers: int) -> None:
    """Check that the batches that are read ahead fit into the shared memory of the machine.

    Containers often have no more than 64 MB of it, and a process that writes beyond is killed.

    Raises
    ------
    InputError
        If it is too small.
    """
    if not _SHARED_MEMORY.is_dir():
        return
    side = tiles.spec.tile_px
    needed = readers * (AHEAD + 1) * min(batch_size, len(tiles)) * side * side * 3
    total = shutil.disk_usage(_SHARED_MEMORY).total
    if needed > total:
        raise InputError(
            f"{readers} readers need {needed / 1e6:.0f} MB of shared memory for batches of"
            f" {batch_size} tiles, and there are {total / 1e6:.0f} MB",
            path=_SHARED_MEMORY,
            fix="lower --readers or --batch-size, or give the container more (docker run"
            " --shm-size)",
        )
