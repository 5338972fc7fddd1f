"""``tcgn-mil encode``: features of every tile of a cohort, one file a slide, streaming and resuming."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tcgn_mil.baselines import colour_statistics
from tcgn_mil.batches.loading import prefetch
from tcgn_mil.devices import resolve_device
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.config import EncodeSettings
from tcgn_mil.inference.tile_encoder import TileEncoder, encode_tiles, open_encoder
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.io.feature_files import read_feature_info, write_features
from tcgn_mil.io.hdf5 import check_pixels
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.types.tile_geometry import check_patch
from tcgn_mil.types.tile_pixels import TileBatches
from tcgn_mil.types.tiles import TileSet

COLOUR_STEP_PX = (
    2  # colour statistics of every second pixel: nine times faster, the same to the third digit
)


def encode_cohort(
    slide_ids: Sequence[str],
    source: TileSource,
    settings: EncodeSettings,
    out_dir: str | Path,
) -> tuple[list[str], list[Failure]]:
    """Encode the tiles of each slide; a slide that cannot be encoded is a row of failures.csv, the rest go on.

    Parameters
    ----------
    slide_ids
        Slides to encode.
    source
        Finds the tiles of a slide and reads their pixels.

    Returns
    -------
    Slides with features (made now or before), and failures.
    """
    out_dir = Path(out_dir)
    device = resolve_device(settings.device)
    encoder = open_encoder(settings.encoder, pretrained=settings.pretrained)
    done: list[str] = []
    failures: list[Failure] = []
    for slide in tqdm(slide_ids, desc="encode", unit="slide"):
        try:
            tiles = source.find(slide)
            if encoder.patch is not None:
                check_patch(encoder.patch, tiles.spec.patch, allow=settings.allow_other_size)
            path = out_dir / f"{safe_file_name(slide, what='slide id')}.h5"
            if not _is_current(path, tiles, encoder):
                _encode_slide(path, tiles, source, encoder, settings, device)
            done.append(slide)
        except InputError as error:
            failures.append(Failure(slide, "encode", error.reason, error.fix or ""))
    write_failures(out_dir, failures)
    return done, failures


def _is_current(path: Path, tiles: TileSet, encoder: TileEncoder) -> bool:
    """Whether `path` already holds these tiles' features by this encoder."""
    if not path.is_file():
        return False
    try:
        info = read_feature_info(path)
    except InputError:
        return False
    made = (info.encoder, info.spec, info.n_tiles, info.stain)
    same_rules = (
        not info.tiling or info.tiling == tiles.settings
    )  # files from before they recorded rules have none
    return same_rules and made == (encoder.identity, tiles.spec, len(tiles), tiles.stain)


def _encode_slide(
    path: Path,
    tiles: TileSet,
    source: TileSource,
    encoder: TileEncoder,
    settings: EncodeSettings,
    device: torch.device,
) -> None:
    colour: list[NDArray[np.float32]] = []

    def with_colour(batches: TileBatches) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        for pixels, coords in batches:
            check_pixels(
                pixels, [f"tile {x}, {y} of slide {tiles.slide_id}" for x, y in coords.tolist()]
            )
            colour.append(colour_statistics(pixels[:, ::COLOUR_STEP_PX, ::COLOUR_STEP_PX]))
            yield pixels, coords

    with (
        source.open(tiles, settings.batch_size) as batches,
        prefetch(with_colour(batches)) as ready,
    ):
        bar = tqdm(
            ready,
            desc=tiles.slide_id,
            unit="batch",
            leave=False,
            total=-(-len(tiles) // settings.batch_size),
        )
        features, coords = encode_tiles(encoder, bar, device=device, precision=settings.precision)
    write_features(
        path,
        features,
        coords,
        slide_id=tiles.slide_id,
        patient_id=tiles.patient_id,
        encoder=encoder.identity,
        spec=tiles.spec,
        colour=np.concatenate(colour),
        stain=tiles.stain,
        tiling=tiles.settings,
    )
