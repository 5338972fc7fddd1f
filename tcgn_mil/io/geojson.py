"""Write tiles as GeoJSON, which QuPath imports as objects.

The file is a FeatureCollection of squares in level-0 pixels. Each square is a QuPath tile with a
class (kept, or the reason why it was rejected) and measurements.

QuPath: Bankhead et al. 2017, Sci. Rep. 7:16878.
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
    """Write the kept tiles of a slide, followed by the rejected ones.

    Parameters
    ----------
    path
        File to write.
    tiles
        The tiles. Measurements are the tissue fraction and, if quality was measured, focus, blur,
        pen and fold. Unknown values are left out, because JSON has no NaN.
    """
    write_feature_collection(path, _tile_features(tiles))


def write_feature_collection(path: str | Path, features: Iterable[Mapping[str, Any]]) -> None:
    """Write GeoJSON features atomically.

    Parameters
    ----------
    path
        File to write.
    features
        GeoJSON features. They are written one by one, so that the text of a large grid is never in
        memory as a whole.
    """
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
    """Describe one tile as a GeoJSON feature for QuPath.

    Parameters
    ----------
    x, y
        Top-left corner in level-0 pixels.
    side
        Side in level-0 pixels.
    measured
        Measurements by name; NaN values are left out. QuPath reads this form since version 0.4
        (qupath/qupath#1099).
    classification
        ``name`` and ``color`` of the class. None for no class.

    Returns
    -------
    dict

    Examples
    --------
    >>> feature = tile_feature(0, 0, 224, {"Attention": 0.5, "Focus": float("nan")})
    >>> feature["properties"]
    {'objectType': 'tile', 'measurements': {'Attention': 0.5}}
    """
    right, bottom = round(x + side, 2), round(y + side, 2)
    properties: dict[str, Any] = {"objectType": "tile"}
    if classification is not None:
        properties["classification"] = dict(classification)
    # NaN is the only value that differs from itself.
    properties["measurements"] = {name: value for name, value in measured.items() if value == value}
    corners = [[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "properties": properties,
    }


def _tile_features(tiles: TileSet) -> Iterator[dict[str, Any]]:
    side = tiles.spec.level0_px
    kept = np.zeros(len(tiles), np.uint8)
    yield from _features(tiles.coords, side, kept, tiles.tissue_fraction, tiles.quality)
    if tiles.rejected is not None:
        rejected = tiles.rejected
        yield from _features(
            rejected.coords, side, rejected.verdict, rejected.tissue_fraction, rejected.quality
        )


def _features(
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
    for (x, y), code, values in zip(coords.tolist(), verdict.tolist(), rows, strict=True):
        name = VERDICTS[code]
        verdict_class = {"name": name, "color": list(COLOURS.get(name, _OTHER_COLOUR))}
        yield tile_feature(x, y, side, dict(zip(columns, values, strict=True)), verdict_class)
