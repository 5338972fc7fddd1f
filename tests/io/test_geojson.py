"""Tiles as GeoJSON for QuPath: squares in level-0 pixels, with classes and measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import geojson
import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.geojson import (
    BOUNDS,
    SLIDE,
    read_record,
    write_feature_collection,
    write_geojson,
)
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import VERDICTS, RejectedTiles, TileQuality, TileSet

SPEC = TileSpec.for_slide(PatchSize(), slide_mpp=0.5, level_downsamples=(1.0,))


def quality(count: int) -> TileQuality:
    rng = np.random.default_rng(count)
    focus, blur, pen, fold = rng.random((4, count), dtype=np.float32)
    focus[:1] = np.nan
    return TileQuality(focus, blur, pen, fold)


def graded(kept: int = 3, rejected: int = 3) -> TileSet:
    lost = RejectedTiles(
        np.arange(2 * rejected).reshape(-1, 2) + 5000,
        np.full(rejected, 0.5, np.float32),
        quality(rejected),
        np.arange(rejected, dtype=np.uint8) % (len(VERDICTS) - 1) + 1,
    )
    coords = np.arange(2 * kept).reshape(-1, 2) * 155
    return TileSet(
        "s", coords, np.full(kept, 0.75, np.float32), SPEC, (9000, 9000), "p", quality(kept), lost
    )


def written(path: Path, tiles: TileSet) -> geojson.FeatureCollection:
    write_geojson(path, tiles)
    return geojson.loads(path.read_text(encoding="utf-8"))


def test_it_is_valid_geojson_of_rectangles_in_level0_pixels(tmp_path: Path) -> None:
    tiles = graded()
    collection = written(tmp_path / "s.geojson", tiles)
    assert isinstance(collection, geojson.FeatureCollection)
    assert all(feature.geometry.errors() in ([], None) for feature in collection.features)
    corners = np.array([feature.geometry.coordinates[0] for feature in collection.features])
    assert corners.shape == (6, 5, 2)
    assert np.array_equal(corners[:, 0], [*tiles.coords.tolist(), *tiles.rejected.coords.tolist()])
    sides = corners.max(axis=1) - corners.min(axis=1)
    assert sides == pytest.approx(np.full((6, 2), SPEC.level0_px), abs=0.01)


def test_classes_and_measurements_are_as_qupath_reads_them(tmp_path: Path) -> None:
    tiles = graded()
    features = written(tmp_path / "s.geojson", tiles).features
    assert [feature.properties["objectType"] for feature in features] == ["tile"] * 6
    classes = [feature.properties["classification"] for feature in features]
    assert [kind["name"] for kind in classes] == ["kept"] * 3 + list(VERDICTS[1:])
    assert all(
        len(kind["color"]) == 3 and all(0 <= part <= 255 for part in kind["color"])
        for kind in classes
    )
    assert len({tuple(kind["color"]) for kind in classes}) == len(VERDICTS)
    measured = [feature.properties["measurements"] for feature in features]
    assert [values["Tissue fraction"] for values in measured] == [0.75] * 3 + [0.5] * 3
    assert measured[1]["Pen"] == pytest.approx(float(tiles.quality.pen[1]), abs=1e-4)
    assert all("Focus" not in values for values in (measured[0], measured[3]))  # not known there
    assert set(measured[1]) == {"Tissue fraction", "Focus", "Blur", "Pen", "Fold"}


def test_an_empty_slide_is_an_empty_collection(tmp_path: Path) -> None:
    empty = TileSet("s", np.empty((0, 2), np.int64), np.empty(0, np.float32), SPEC, (9000, 9000))
    assert written(tmp_path / "s.geojson", empty).features == []


def test_tiles_of_unknown_quality_have_no_measurement(tmp_path: Path) -> None:
    foreign = TileSet(
        "s", np.zeros((1, 2), np.int64), np.array([np.nan], np.float32), SPEC, (9000, 9000)
    )
    (feature,) = written(tmp_path / "s.geojson", foreign).features
    assert feature.properties["measurements"] == {}


def test_a_feature_stands_on_one_line(tmp_path: Path) -> None:
    """A large grid is written and can be read feature by feature."""
    write_geojson(tmp_path / "s.geojson", graded(kept=500, rejected=0))
    lines = (tmp_path / "s.geojson").read_text().splitlines()
    assert len(lines) == 500 + 2
    assert json.loads(lines[7].rstrip(","))["type"] == "Feature"


def test_the_corner_of_the_scanned_area_is_the_origin_that_qupath_has(tmp_path: Path) -> None:
    spec = replace(SPEC, bounds_x=2300, bounds_y=4100, file_mpp=0.05)
    tiles = replace(graded(), spec=spec)
    path = tmp_path / "s.geojson"
    for origin, corner in ((BOUNDS, [2300, 4100]), (SLIDE, [0, 0])):
        write_geojson(path, tiles, origin=origin)
        collection = geojson.loads(path.read_text(encoding="utf-8"))
        corners = np.array([each.geometry.coordinates[0][0] for each in collection.features])
        assert np.array_equal(corners[:3] + corner, tiles.coords)
        assert tiles.rejected is not None
        assert np.array_equal(corners[3:] + corner, tiles.rejected.coords)
        assert read_record(path) == {
            "origin": origin,
            "origin_level0_px": corner,
            "slide_mpp": 0.5,
            "file_mpp": 0.05,
        }
    with pytest.raises(InputError, match="unknown origin 'qupath'"):
        write_geojson(path, tiles, origin="qupath")


def test_a_file_without_a_record_has_an_empty_one(tmp_path: Path) -> None:
    write_feature_collection(tmp_path / "a.geojson", [])
    (tmp_path / "b.geojson").write_text("[1, 2]")
    assert [read_record(tmp_path / f"{name}.geojson") for name in "ab"] == [{}, {}]
