"""Encode slides whose tiles are read ahead by several processes (``tcgn-mil encode --readers N``).

Features are written by a thread of their own, so that neither reading nor writing holds up the
encoder. The rules for a slide that fails are those of one slide after the other:

- A slide that cannot be read costs its own row in ``failures.csv``.
- If a process that reads dies, the slides in work are read again, one at a time, by a process of
  their own. A slide whose process dies again is given up.
- If the encoder fails, the slides in work are encoded one at a time, which gives each its own row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcgn_mil.baselines import COLOUR_STATISTICS
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.readers import (
    COLOUR_STEP_PX,
    STAGE,
    ReadTiles,
    is_death,
    read_ahead,
)
from tcgn_mil.inference.batch_stream import EncodedBatch, encode_stream
from tcgn_mil.inference.tile_encoder import TileEncoder
from tcgn_mil.io.failures import Failure, unexpected
from tcgn_mil.layers.cpu.memory import FREED_MEMORY
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.progress import Progress
from tcgn_mil.types.tiles import TileSet

_DIED = (
    "the process that read this slide died, and died again when it read the slide alone; either"
    " memory ran out, or a library crashed on a damaged file",
    "copy the file again and compare its size with the source's; encode with fewer --readers",
)


@dataclass(frozen=True)
class EncodedTiles:
    """Features of the tiles of one slide, in memory.

    Attributes
    ----------
    features
        (N, D) float16, one row per tile.
    coords
        (N, 2) int64, top-left corners in level-0 pixels, x then y.
    colour
        (N, C) float32 colour and stain statistics (:func:`tcgn_mil.baselines.colour_statistics`).
    """

    features: NDArray[np.floating]
    coords: NDArray[np.int64]
    colour: NDArray[np.float32]


class SlideEncoding(Protocol):
    """The parts of the encoding of a slide."""

    @property
    def source(self) -> TileSource:
        """Reads the tiles."""
        ...

    @property
    def encoder(self) -> TileEncoder:
        """Encodes them."""
        ...

    @property
    def settings(self) -> EncodeSettings:
        """Batch size and precision."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the encoder."""
        ...

    def plan(self, slide: str) -> TileSet:
        """Find the tiles to encode."""
        ...

    def write(self, tiles: TileSet, encoded: EncodedTiles) -> None:
        """Write the features of a slide."""

    def encode(self, slide: str) -> Failure | None:
        """Do all of it, in this process."""


def encode_read_ahead(
    work: SlideEncoding, slides: Sequence[str], readers: int
) -> dict[str, Failure | None]:
    """Encode slides whose tiles are read by `readers` processes.

    Returns
    -------
    For each slide None, or the reason why it could not be encoded.

    Raises
    ------
    InputError
        If the shared memory of the machine is too small.
    """
    with Progress(total=len(slides), desc="encode", unit="slide") as bar:
        run = _Run(work, bar)
        while waiting := [slide for slide in slides if slide not in run.outcome]:
            try:
                run.stream(waiting, readers)
            except InputError:
                raise
            except Exception as error:
                if not run.begun():  # it is not about any slide
                    raise
                _one_at_a_time(run, is_dead=is_death(error))
        return run.outcome


def _one_at_a_time(run: _Run, *, is_dead: bool) -> None:
    """Try the slides that were in work when something failed again, each alone."""
    for slide in run.begun():
        if not is_dead:
            run.end(slide, run.work.encode(slide))
            continue
        try:
            run.stream([slide], 1)
        except Exception as error:
            run.end(
                slide,
                Failure(slide, STAGE, *_DIED)
                if is_death(error)
                else unexpected(error, slide, STAGE),
            )


@dataclass
class _Rows:
    """Features of a slide of which some batches are still missing."""

    tiles: TileSet
    missing: int
    features: NDArray[np.floating] | None = None
    colour: NDArray[np.float32] | None = None

    def add(self, batch: EncodedBatch[ReadTiles]) -> bool:
        """Put the rows of a batch in their place, and return whether all are there."""
        read = batch.tag
        colour = read.colour.numpy() if batch.colour is None and read.colour is not None else None
        colour = batch.colour if colour is None else colour
        if self.features is None or self.colour is None:
            shape = len(self.tiles), batch.features.shape[1]
            self.features = np.empty(shape, dtype=batch.features.dtype)
            self.colour = np.empty((len(self.tiles), COLOUR_STATISTICS), dtype=np.float32)
        rows = slice(read.first, read.first + len(batch.features))
        self.features[rows], self.colour[rows] = batch.features, colour
        self.missing -= len(batch.features)
        return self.missing == 0


class _Run:
    """The outcome of each finished slide, and the slides in work."""

    def __init__(self, work: SlideEncoding, bar: Progress) -> None:
        self.work, self.bar = work, bar
        self.outcome: dict[str, Failure | None] = {}
        self._rows: dict[str, _Rows] = {}
        self._dropped: set[str] = set()
        self._written: tuple[str, Future[None]] | None = None

    def begun(self) -> list[str]:
        """Return the slides that were begun and have not ended."""
        return [slide for slide in self._rows if slide not in self.outcome]

    def end(self, slide: str, failure: Failure | None) -> None:
        """Note what became of a slide."""
        self.outcome[slide] = failure
        self._rows.pop(slide, None)
        FREED_MEMORY.bound()
        self.bar.failed += failure is not None
        self.bar.update()

    def stream(self, slides: Iterable[str], readers: int) -> None:
        """Encode slides in one stream of batches."""
        work, settings = self.work, self.work.settings
        self._rows.clear()
        self._dropped.clear()
        on_gpu = work.device.type == "cuda"
        batches = read_ahead(
            work.source,
            self._plans(slides),
            readers=readers,
            batch_size=settings.batch_size,
            dropped=self._dropped,
            pin=on_gpu,
            with_colour=not on_gpu,
        )
        encoded = encode_stream(
            work.encoder,
            self._readable(batches),
            device=work.device,
            precision=settings.precision,
            colour_step_px=COLOUR_STEP_PX if on_gpu else None,
        )
        with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
            try:
                for batch in encoded:
                    slide = batch.tag.slide
                    rows = self._rows.get(slide)
                    if rows is not None and rows.add(batch):
                        self._await_write()
                        self._written = slide, writer.submit(self._write, self._rows[slide])
            finally:
                self._await_write()

    def _plans(self, slides: Iterable[str]) -> Iterator[TileSet]:
        for slide in slides:
            try:
                tiles = self.work.plan(slide)
            except Exception as error:
                if is_death(error):  # it reached this code by a signal
                    raise
                self.end(slide, unexpected(error, slide, STAGE))
                continue
            self._rows[slide] = _Rows(tiles, len(tiles))
            yield tiles

    def _readable(self, batches: Iterable[ReadTiles]) -> Iterator[tuple[Tensor, ReadTiles]]:
        for read in batches:
            if read.failure is not None and read.slide not in self._dropped:
                self._dropped.add(read.slide)
                self.end(read.slide, read.failure)
            if read.slide not in self._dropped:
                yield read.pixels, read

    def _write(self, rows: _Rows) -> None:
        assert rows.features is not None
        assert rows.colour is not None
        self.work.write(rows.tiles, EncodedTiles(rows.features, rows.tiles.coords, rows.colour))

    def _await_write(self) -> None:
        """Wait until the features of the slide before are on disk."""
        if self._written is None:
            return
        slide, future = self._written
        self._written = None
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        self.end(slide, None if error is None else unexpected(error, slide, STAGE))
