"""Tile grids as GeoJSON, the form in which QuPath (Bankhead et al. 2017, Sci. Rep. 7:16878) imports objects.

A FeatureCollection of rectangles in level-0 pixels, each a QuPath tile with a class (kept, or why it was not) and
measurements. Written feature by feature, so that a large grid never stands in memory as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.artefacts import atomic_path
from tcgn_mil.contracts import VERDICTS, TileQuality, TileSet

COLOURS = {"kept": (20, 60, 200), "pen": (220, 60, 160), "out of focus": (230, 160, 0), "fold": (120, 80, 40)}
_OTHER_COLOUR = (110, 110, 110)
_DIGITS = 4


def write_geojson(path: str | Path, tiles: TileSet) -> None:
    """Write the kept tiles, then the rejected ones, atomically.

    Properties of a feature: ``objectType`` tile; ``classification`` with ``name`` and ``color``; ``measurements``
    tissue fraction, focus, blur, pen and fold, without those that are not known (JSON has no NaN).
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, feature in enumerate(_features(tiles)):
            file.write(",\n" if index else "\n")
            file.write(json.dumps(feature, allow_nan=False, separators=(",", ":")))
        file.write("\n]}\n")


def _features(tiles: TileSet) -> Iterator[dict[str, Any]]:
    side = tiles.spec.level0_px
    yield from _part(tiles.coords, side, np.zeros(len(tiles), np.uint8), tiles.tissue_fraction, tiles.quality)
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
        columns |= {"Focus": quality.focus, "Blur": quality.blur, "Pen": quality.pen, "Fold": quality.fold}
    rows = zip(*(np.round(column.astype(np.float64), _DIGITS).tolist() for column in columns.values()), strict=True)
    for (x, y), kind, values in zip(coords.tolist(), verdict.tolist(), rows, strict=True):
        yield _feature(x, y, side, VERDICTS[kind], dict(zip(columns, values, strict=True)))


def _feature(x: int, y: int, side: float, verdict: str, measured: Mapping[str, float]) -> dict[str, Any]:
    right, bottom = round(x + side, 2), round(y + side, 2)
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]]},
        "properties": {
            "objectType": "tile",
            "classification": {"name": verdict, "color": list(COLOURS.get(verdict, _OTHER_COLOUR))},
            "measurements": {name: value for name, value in measured.items() if value == value},
        },
    }
