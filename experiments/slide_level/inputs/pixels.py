"""Find the tiles of a cohort's slides, whose pixels an encoder reads while it is fine-tuned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.encode.resume import check_features_of
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.io.feature_files import read_feature_info
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.types.tile_geometry import check_patch
from tcgn_mil.types.tiles import TileSet, stain_identity


@dataclass(frozen=True)
class SlidePixels:
    """Tiles of the slides of each patient, and the source that reads their pixels."""

    tiles: Mapping[str, tuple[TileSet, ...]]
    source: TileSource


def with_pixels(
    config: FinetuneConfig, data: CohortData, source: TileSource
) -> tuple[CohortData, SlidePixels]:
    """Keep the slides whose pixels can be read, and list the others in ``dropped``.

    Returns
    -------
    The cohort without the patients that have no such slide, and the tiles of the slides.

    Raises
    ------
    InputError
        If no patient is left.
    """
    tiles: dict[str, tuple[TileSet, ...]] = {}
    slides: dict[str, tuple[Path, ...]] = {}
    lost: list[tuple[str, str, str]] = []
    for patient in data.patients:
        readable: dict[Path, TileSet] = {}
        for path in data.slides[patient]:
            try:
                readable[path] = _readable_tiles(data, path, source)
            except InputError as error:
                lost.append(("slide", path.stem, f"for its pixels: {error}"))
        if readable:
            slides[patient], tiles[patient] = tuple(readable), tuple(readable.values())
        else:
            lost.append(("patient", patient, "no slide whose pixels can be read"))
    if not slides:
        raise InputError(
            f"no slide's pixels can be read: {lost[0][2]}",
            path=config.tiles,
            fix="check --slides and --tiles",
        )
    rows = data.rows_of(list(slides))
    left = dataclasses.replace(
        data,
        patients=tuple(slides),
        slides=slides,
        values=data.values[rows],
        descriptors={name: values[rows] for name, values in data.descriptors.items()},
        dropped=pd.concat(
            [data.dropped, pd.DataFrame(lost, columns=data.dropped.columns)], ignore_index=True
        ),
    )
    return left, SlidePixels(tiles, source)


def _readable_tiles(data: CohortData, path: Path, source: TileSource) -> TileSet:
    """Return the tiles of a slide if its features were made from them and the first can be read."""
    tiles = source.find(path.stem)
    check_patch(data.patch, tiles.spec.patch)
    if stain_identity(tiles.stain) != data.stain:
        raise InputError(
            f"its tiles have the stain normalisation {stain_identity(tiles.stain)}, its features"
            f" {data.stain}",
            fix="give --tiles the folder from which the slides were encoded",
        )
    first = tiles.select(slice(0, 1))
    if not len(first):
        raise InputError("has no tile", fix="check the tissue of the slide in its overlay picture")
    with source.open(first, 1) as batches:
        for _ in batches:
            pass
    if (encoded := read_feature_info(path).n_tiles) != len(tiles):
        raise InputError(
            f"has {len(tiles)} tiles, its features {encoded}",
            fix="give --tiles the folder from which the slides were encoded",
        )
    check_features_of(path, tiles, source)
    return tiles
