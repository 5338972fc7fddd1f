"""Write tiles as GeoJSON, which QuPath imports as objects.

The file is a FeatureCollection of squares in level-0 pixels. Each square is a QuPath tile with a
class (kept, or the reason why it was rejected) and measurements. QuPath crops MIRAX, Leica and
Ventana slides to their scanned area, so that the corner of this area is its 0, 0. It is subtracted,
and the member ``tcgn_mil`` of the collection records it.

QuPath: Bankhead et al. 2017, Sci. Rep. 7:16878.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.types.tile_geometry import TileSpec
from tcgn_mil.types.tiles import VERDICTS, TileQuality, TileSet

COLOURS = {
    "kept": (20, 60, 200),
    "pen": (220, 60, 160),
    "out of focus": (230, 160, 0),
    "fold": (120, 80, 40),
}
_OTHER_COLOUR = (110, 110, 110)
BOUNDS, SLIDE = ORIGINS = ("bounds", "slide")
"""Point that is 0, 0: the corner of the scanned area, to which viewers crop, or that of level 0."""
_RECORD = "tcgn_mil"
_LONGEST_HEADER = 10_000
_DIGITS = 4


def origin_of(spec: TileSpec, origin: str) -> tuple[int, int]:
    """Return the level-0 position of the point that is 0, 0 in a GeoJSON.

    Parameters
    ----------
    spec
        Geometry of the tiles.
    origin
        One of `ORIGINS`.

    Raises
    ------
    InputError
        If `origin` is another word.
    """
    if origin not in ORIGINS:
        raise InputError(f"unknown origin {origin!r}", fix=f"give one of {', '.join(ORIGINS)}")
    return (spec.bounds_x, spec.bounds_y) if origin == BOUNDS else (0, 0)


def write_geojson(path: str | Path, tiles: TileSet, *, origin: str = BOUNDS) -> None:
    """Write the kept tiles of a slide, followed by the rejected ones.

    Parameters
    ----------
    path
        File to write.
    tiles
        The tiles. Measurements are the tissue fraction and, if quality was measured, focus, blur,
        pen and fold. Unknown values are left out, because JSON has no NaN.
    origin
        Point that is 0, 0, one of `ORIGINS`.
    """
    corner = origin_of(tiles.spec, origin)
    record: dict[str, Any] = {
        "origin": origin,
        "origin_level0_px": corner,
        "slide_mpp": tiles.spec.slide_mpp,
    }
    if tiles.spec.file_mpp is not None:
        record["file_mpp"] = tiles.spec.file_mpp
    write_feature_collection(path, _tile_features(tiles, corner), record)


def write_feature_collection(
    path: str | Path,
    features: Iterable[Mapping[str, Any]],
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write GeoJSON features atomically.

    Parameters
    ----------
    path
        File to write.
    features
        GeoJSON features. They are written one by one, so that the text of a large grid is never in
        memory as a whole.
    record
        Facts about the file, written as its member ``tcgn_mil``, which viewers pass over.
    """
    facts = "" if record is None else f'"{_RECORD}": {json.dumps(dict(record))}, '
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", ' + facts + '"features": [')
        for index, feature in enumerate(features):
            file.write(",\n" if index else "\n")
            file.write(json.dumps(feature, allow_nan=False, separators=(",", ":")))
        file.write("\n]}\n")


@reads("GeoJSON", fix="make the file again")
def read_record(path: str | Path) -> dict[str, Any]:
    """Read the record of a file of :func:`write_feature_collection`; empty if it has none."""
    with Path(path).open(encoding="utf-8") as file:
        header = file.readline(_LONGEST_HEADER)
    try:
        record = json.loads(header.rstrip().removesuffix("[") + "[]}").get(_RECORD, {})
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


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


def _tile_features(tiles: TileSet, corner: tuple[int, int]) -> Iterator[dict[str, Any]]:
    side = tiles.spec.level0_px
    kept = np.zeros(len(tiles), np.uint8)
    yield from _features(tiles.coords - corner, side, kept, tiles.tissue_fraction, tiles.quality)
    if tiles.rejected is not None:
        rejected = tiles.rejected
        yield from _features(
            rejected.coords - corner,
            side,
            rejected.verdict,
            rejected.tissue_fraction,
            rejected.quality,
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
