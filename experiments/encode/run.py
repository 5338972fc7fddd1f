"""Encode the tiles of a cohort: one feature file per slide (``tcgn-mil encode``).

Tiles are streamed in batches, so memory does not grow with the size of a slide. A slide whose
feature file is current is not encoded again (:mod:`~.resume` says when it is).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tcgn_mil.baselines import colour_statistics
from tcgn_mil.batches.loading import prefetch
from tcgn_mil.devices import resolve_device
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.experiments.encode.resume import current_features, feature_path, made_from
from tcgn_mil.inference.tile_encoder import AUTO, TileEncoder, encode_tiles, open_encoder
from tcgn_mil.io.failures import Failure, unexpected, write_failures
from tcgn_mil.io.feature_files import write_features
from tcgn_mil.io.hdf5 import check_pixels
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.types.tile_pixels import TileBatches
from tcgn_mil.types.tiles import TileSet

# Colour statistics are taken from every second pixel in both directions. They agree with those of
# all pixels to the third digit, and take a ninth of the time.
COLOUR_STEP_PX = 2


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


def encode_cohort(
    slide_ids: Sequence[str],
    source: TileSource,
    settings: EncodeSettings,
    out_dir: str | Path,
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

    Returns
    -------
    done
        Slides that have features, whether they were made now or before.
    failures
        Slides that could not be encoded, with the reason and what to do.
    """
    out_dir = Path(out_dir)
    device = resolve_device(settings.device)
    encoder = open_encoder(settings.encoder, **settings.encoder_options.as_arguments())
    made_by = _encoder_record(encoder, settings, device)
    current = current_features(slide_ids, source, encoder, made_by, settings, out_dir)
    done: list[str] = []
    failures: list[Failure] = []
    for slide in tqdm(slide_ids, desc="encode", unit="slide"):
        try:
            if slide not in current:
                tiles = source.find(slide)
                encoder.check_tiles(tiles.spec.patch, allow=settings.allow_other_size)
                path = feature_path(out_dir, slide)
                _write_slide(path, tiles, source, encoder, settings, device, made_by)
            done.append(slide)
        except Exception as error:  # whatever one slide does costs its own row only
            failures.append(unexpected(error, slide, "encode"))
    write_failures(out_dir, failures)
    return done, failures


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
            names = [f"tile {x}, {y} of slide {tiles.slide_id}" for x, y in coords.tolist()]
            check_pixels(pixels, names)
            colour.append(colour_statistics(pixels[:, ::COLOUR_STEP_PX, ::COLOUR_STEP_PX]))
            yield pixels, coords

    device = resolve_device("auto") if device is None else device
    with source.open(tiles, batch_size) as batches, prefetch(with_colour(batches)) as ready:
        count = math.ceil(len(tiles) / batch_size)
        bar = tqdm(ready, desc=tiles.slide_id, unit="batch", leave=False, total=count)
        features, coords = encode_tiles(encoder, bar, device=device, precision=precision)
    return EncodedTiles(features, coords, np.concatenate(colour))


def _write_slide(
    path: Path,
    tiles: TileSet,
    source: TileSource,
    encoder: TileEncoder,
    settings: EncodeSettings,
    device: torch.device,
    made_by: Mapping[str, Any],
) -> None:
    # The digests come first, so that a slide that changes meanwhile is noticed the next time.
    digests = made_from(tiles, source)
    encoded = encode_slide(
        tiles,
        source,
        encoder,
        device=device,
        batch_size=settings.batch_size,
        precision=settings.precision,
    )
    # The reader gives the tiles in its own order, in which the features are.
    tiles = replace(tiles, coords=encoded.coords)
    write_features(
        path,
        encoded.features,
        tiles,
        encoder=encoder.identity,
        colour=encoded.colour,
        encoder_record=dict(made_by),
        made_from=digests,
    )


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
