"""Encode the tiles of a cohort: one feature file per slide (``tcgn-mil encode``).

Tiles are streamed in batches, so memory does not grow with the size of a slide. A slide whose
feature file is current is not encoded again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcgn_mil.baselines import colour_statistics
from tcgn_mil.batches.loading import prefetch
from tcgn_mil.devices import resolve_device
from tcgn_mil.experiments.command_line.process import usable_cores
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.read_ahead import EncodedTiles, encode_read_ahead
from tcgn_mil.experiments.encode.readers import COLOUR_STEP_PX, STAGE, check_tiles
from tcgn_mil.experiments.encode.resume import current_features, feature_path, made_from
from tcgn_mil.experiments.engines.engine import Engine
from tcgn_mil.inference.batch_stream import encode_tiles, no_tiles
from tcgn_mil.inference.tile_encoder import AUTO, TileEncoder, open_encoder
from tcgn_mil.io.failures import Failure, record_failures, unexpected
from tcgn_mil.io.feature_files import write_features
from tcgn_mil.layers.cpu.memory import FREED_MEMORY
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.parallel import outcome_of
from tcgn_mil.progress import Progress
from tcgn_mil.types.shards import Shard
from tcgn_mil.types.tile_pixels import TileBatches
from tcgn_mil.types.tiles import TileSet

_DIED = (
    "the process that encoded this slide died twice; either memory ran out, or a library crashed on"
    " a damaged file",
    "copy the file again and compare its size with the source's; lower --batch-size",
)
# More processes than this read faster than any encoder of the registry encodes.
MOST_READERS = 16


def encode_cohort(
    slide_ids: Sequence[str],
    source: TileSource,
    settings: EncodeSettings,
    out_dir: str | Path,
    *,
    shard: Shard | None = None,
    engine: Engine = Engine(),
) -> tuple[list[str], list[Failure]]:
    """Encode the tiles of several slides.

    A slide that cannot be encoded costs a row in ``failures.csv``, and the others go on.

    Parameters
    ----------
    slide_ids
        Slides to encode.
    source
        Finds the tiles of a slide and reads their pixels.
    settings
        Encoder, batch size, precision and device.
    out_dir
        Folder that receives ``<slide>.h5`` and ``failures.csv``.
    shard
        Share of the slides to encode; None for all.
    engine
        Workers that encode; by default this process.

    Returns
    -------
    done
        Slides that have features, whether they were made now or before.
    failures
        Slides that could not be encoded, with the reason and what to do.
    """
    out_dir = Path(out_dir)
    slide_ids = [slide for slide in slide_ids if shard is None or shard.holds(slide)]
    if engine.is_this_process:
        outcome = _encode_here(open_cohort(source, settings, out_dir), slide_ids)
    else:
        outcome = encode_by_workers(source, settings, out_dir, slide_ids, engine)
    failures = [failure for slide in slide_ids if (failure := outcome[slide]) is not None]
    record_failures(out_dir, failures, shard)
    return [slide for slide in slide_ids if outcome[slide] is None], failures


def open_cohort(source: TileSource, settings: EncodeSettings, out_dir: Path) -> CohortEncoder:
    """Open the encoder of a cohort on the device of its settings."""
    device = resolve_device(settings.device)
    encoder = open_encoder(settings.encoder, **settings.encoder_options.as_arguments())
    return CohortEncoder(source, encoder, settings, device, out_dir)


def _encode_here(work: CohortEncoder, slides: Sequence[str]) -> dict[str, Failure | None]:
    """Encode slides in this process; return the reason for each that failed."""
    current = current_features(
        slides, work.source, work.encoder, work.made_by, work.settings, work.out_dir
    )
    outcome: dict[str, Failure | None] = dict.fromkeys(current)
    todo = [slide for slide in slides if slide not in current]
    readers = reader_count(work.settings, work.device)
    if readers > 1:
        return outcome | encode_read_ahead(work, todo, readers)
    bar = Progress(todo, desc="encode", unit="slide", initial=len(current), total=len(slides))
    for slide in bar:
        outcome[slide] = work.encode(slide)
        bar.failed += outcome[slide] is not None
    return outcome


def encode_by_workers(
    source: TileSource,
    settings: EncodeSettings,
    out_dir: Path,
    slides: Sequence[str],
    engine: Engine,
) -> dict[str, Failure | None]:
    """Encode slides by the workers of an engine; return the reason for each that failed."""
    opener = SlideOpener(source, settings, out_dir, processes=max(1, len(engine.devices)))
    outcomes = engine.run(opener, slides, out_dir=out_dir, uses_gpu=True)
    failures: dict[str, Failure | None] = {}
    bar = Progress(outcomes, desc="encode", unit="slide", total=len(slides))
    for outcome in bar:
        slide = slides[outcome.index]
        failures[slide] = outcome_of(outcome, slide, STAGE, _DIED)
        bar.failed += failures[slide] is not None
    return failures


@dataclass(frozen=True)
class SlideOpener:
    """Prepares a worker that encodes slides: opens the encoder on the device of the worker.

    Attributes
    ----------
    source, settings, out_dir
        As in :class:`CohortEncoder`.
    processes
        Number of workers that share the cores of a machine.
    """

    source: TileSource
    settings: EncodeSettings
    out_dir: Path
    processes: int = 1

    def input_of(self, slide: str) -> Path:
        """Return the file of a slide."""
        return self.source.entries[slide].path.resolve()

    def __call__(self, device: str) -> Callable[[str], Failure | None]:
        """Return the function that encodes one slide."""
        cores = max(1, usable_cores() // self.processes)
        if device == "cpu":
            # The last digit of a sum depends on the number of threads. With one, the files do not
            # depend on the number of workers, nor on the machine that a worker is on.
            torch.set_num_threads(1)
        settings = replace(self.settings, device=device)
        if settings.readers is None and device != "cpu":
            settings = replace(settings, readers=min(MOST_READERS, cores))
        work = open_cohort(self.source, settings, self.out_dir)
        return lambda slide: _encode_here(work, [slide])[slide]


def reader_count(settings: EncodeSettings, device: torch.device) -> int:
    """Return the number of processes that read tiles; 1 stands for a thread of this process.

    On a GPU the default is one less than the cores that this process may use, and at most
    `MOST_READERS`. A CPU encodes more slowly than one thread reads.
    """
    if settings.readers is not None:
        return settings.readers
    return 1 if device.type == "cpu" else min(MOST_READERS, max(1, usable_cores() - 1))


@dataclass(frozen=True)
class CohortEncoder:
    """Everything that the slides of a cohort are encoded with.

    Attributes
    ----------
    source
        Finds the tiles of a slide and reads their pixels.
    encoder
        The encoder.
    settings
        Batch size, precision and other settings.
    device
        Device of the encoder.
    out_dir
        Folder that receives ``<slide>.h5``.
    digests
        What the features of the slides in work are made from
        (:func:`tcgn_mil.experiments.encode.resume.made_from`).
    """

    source: TileSource
    encoder: TileEncoder
    settings: EncodeSettings
    device: torch.device
    out_dir: Path
    digests: dict[str, dict[str, str]] = field(default_factory=dict)

    @cached_property
    def made_by(self) -> dict[str, Any]:
        """Settings that decide the features, beside the encoder's identity."""
        return _encoder_record(self.encoder, self.settings, self.device)

    def plan(self, slide: str) -> TileSet:
        """Find the tiles of a slide, and note the digests of what its features will be made from.

        Raises
        ------
        InputError
            If the slide has no tiles, or they are not of the size that the encoder reads.
        """
        tiles = self.source.find(slide)
        self.encoder.check_tiles(tiles.spec.patch, allow=self.settings.allow_other_size)
        if not len(tiles):
            raise no_tiles()
        # The digests come first, so that a slide that changes meanwhile is noticed the next time.
        self.digests[slide] = made_from(tiles, self.source)
        return tiles

    def write(self, tiles: TileSet, encoded: EncodedTiles) -> None:
        """Write the features of a slide."""
        # The reader gives the tiles in its own order, in which the features are.
        write_features(
            feature_path(self.out_dir, tiles.slide_id),
            encoded.features,
            replace(tiles, coords=encoded.coords),
            encoder=self.encoder.identity,
            colour=encoded.colour,
            encoder_record=dict(self.made_by),
            made_from=self.digests.pop(tiles.slide_id),
        )

    def encode(self, slide: str) -> Failure | None:
        """Encode one slide in this process; return the reason if that fails."""
        try:
            tiles = self.plan(slide)
            encoded = encode_slide(
                tiles,
                self.source,
                self.encoder,
                device=self.device,
                batch_size=self.settings.batch_size,
                precision=self.settings.precision,
            )
            self.write(tiles, encoded)
        except Exception as error:  # whatever one slide does costs its own row only
            return unexpected(error, slide, STAGE)
        finally:
            FREED_MEMORY.bound()
        return None


def encode_slide(
    tiles: TileSet,
    source: TileSource,
    encoder: TileEncoder,
    *,
    device: torch.device | None = None,
    batch_size: int = 64,
    precision: str = AUTO,
) -> EncodedTiles:
    """Encode the tiles of one slide.

    Parameters
    ----------
    tiles
        Tiles to encode.
    source
        Reads their pixels.
    encoder
        From :func:`tcgn_mil.inference.tile_encoder.open_encoder`.
    device
        Device for the encoder; by default a GPU if there is one.
    batch_size
        Tiles in a batch.
    precision
        ``auto`` (the encoder's own on a GPU), ``32-true``, ``bf16-mixed`` or ``16-mixed``.

    Raises
    ------
    InputError
        If the slide cannot be read, or a tile holds no usable pixels.
    """
    colour: list[NDArray[np.float32]] = []

    def with_colour(batches: TileBatches) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        # The statistics are taken while the pixels pass by, so that no tile is read twice.
        for pixels, coords in batches:
            check_tiles(pixels, coords, tiles.slide_id)
            colour.append(colour_statistics(pixels[:, ::COLOUR_STEP_PX, ::COLOUR_STEP_PX]))
            yield pixels, coords

    device = resolve_device("auto") if device is None else device
    with source.open(tiles, batch_size) as batches, prefetch(with_colour(batches)) as ready:
        count = math.ceil(len(tiles) / batch_size)
        bar = Progress(ready, desc=tiles.slide_id, unit="batch", leave=False, total=count)
        features, coords = encode_tiles(encoder, bar, device=device, precision=precision)
    return EncodedTiles(features, coords, np.concatenate(colour))


def _encoder_record(
    encoder: TileEncoder, settings: EncodeSettings, device: torch.device
) -> dict[str, Any]:
    """Return what decides the features beside the identity, for the record of a feature file."""
    spec = encoder.input_spec
    return {
        **encoder.record,
        "precision": encoder.precision_on(device, settings.precision),
        "input": {**spec._asdict(), "mean": list(spec.mean), "std": list(spec.std)},
        "arguments": dict(settings.encoder_options.arguments),
    }
