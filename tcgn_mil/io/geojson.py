"""Tile grids as GeoJSON, the form in which QuPath (Bankhead et al. 2017, Sci. Rep. 7:16878) imports objects.

A FeatureCollection of rectangles in level-0 pixels, each a QuPath tile with a class (kept, or why it was not) and
measurements. Written feature by feature, so that a large grid never stands in memory as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.types.tiles import VERDICTS, TileQuality, TileSet

COLOURS = {
    "kept": (20, 60, 200),
    "pen": (220, 60, 160),
    "out of focus": (230, 160, 0),
    "fold": (120, 80, 40),
}
_OTHER_COLOUR = (110, 110, 110)
_DIGITS = 4


def write_geojson(path: str | Path, tiles: TileSet) -> None:
    """Write the kept tiles, then the rejected ones, atomically.

    Properties of a feature: ``objectType`` tile; ``classification`` with ``name`` and ``color``; ``measurements``
    tissue fraction, focus, blur, pen and fold, without those that are not known (JSON has no NaN).
    """
    write_features(path, _features(tiles))


def write_features(path: str | Path, features: Iterable[Mapping[str, Any]]) -> None:
    """Write a FeatureCollection atomically, feature by feature as they come."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, feature in enumerate(features):
            file.write(",\n" if index else "\n")
            file.write(json.dumps(feature, allow_nan=False, separators=(",", ":")))
        file.write("\n]}\n")


def tile_feature(
    x: int,
    y: int,
    side: float,
    measured: Mapping[str, float],
    classification: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """One QuPath tile object: a square at level-0 pixel x, y, without the measurements that are NaN.

    Measurements are a map of name to value, which QuPath reads since 0.4 (qupath/qupath#1099).
    """
    right, bottom = round(x + side, 2), round(y + side, 2)
    properties: dict[str, Any] = {"objectType": "tile"}
    if classification is not None:
        properties["classification"] = dict(classification)
    properties["measurements"] = {name: value for name, value in measured.items() if value == value}
    corners = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": properties,
    }


def _features(tiles: TileSet) -> Iterator[dict[str, Any]]:
    side = tiles.spec.level0_px
    yield from _part(
        tiles.coords, side, np.zeros(len(tiles), np.uint8), tiles.tissue_fraction, tiles.quality
    )
    if tiles.rejected is not None:
        left = tiles.rejected
        yield from _part(left.coords, side, left.verdict, left.tissue_fraction, left.quality)


def _part(
    coords: NDArray[np.int64],
    side: float,
    verdict: NDArray[np.uint8],
    tissue_fraction: NDArray[np.float32],
    quality: TileQuality | None,
) -> Iterator[dict[str, Any]]:
    columns: dict[str, NDArray[np.float32]] = {"Tissue fraction": tissue_fraction}
    if quality is not None:
        columns |= {
            "Focus": quality.focus,
            "Blur": quality.blur,
            "Pen": quality.pen,
            "Fold": quality.fold,
        }
    rows = zip(
        *(np.round(column.astype(np.float64), _DIGITS).tolist() for column in columns.values()),
        strict=True,
    )
    for (x, y), kind, values in zip(coords.tolist(), verdict.tolist(), rows, strict=True):
        verdict_class = {
            "name": VERDICTS[kind],
            "color": list(COLOURS.get(VERDICTS[kind], _OTHER_COLOUR)),
        }
        yield tile_feature(x, y, side, dict(zip(columns, values, strict=True)), verdict_class)
