"""Slides that state a scanned area are cropped to it by QuPath, and GeoJSON follows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tcgn_mil.errors import InputError
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.preprocessing.interop.tile_source import read_slide_tiles
from tcgn_mil.preprocessing.interop.tile_writers import export_cohort
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.settings import TileSettings

CORNER, NM = (2300, 4100), 500


@pytest.fixture
def leica(tmp_path: Path, painted: tuple) -> SlideEntry:
    """A Leica slide of 0.5 µm/px whose only scanned area begins at `CORNER`."""
    image = painted[0][:1536, :2048]
    height, width = image.shape[:2]
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"'
        ' uuid="urn:uuid:1"><collection name="c" uuid="urn:uuid:2"'
        f' sizeX="{7000 * NM}" sizeY="{9000 * NM}"><image name="i" uuid="urn:uuid:3">'
        '<creationDate>2020-01-01T00:00:00.0Z</creationDate><device model="m" version="1"/>'
        f'<pixels sizeX="{width}" sizeY="{height}"><dimension sizeX="{width}" sizeY="{height}"'
        f' r="0" ifd="0"/></pixels><view sizeX="{width * NM}" sizeY="{height * NM}"'
        f' offsetX="{CORNER[0] * NM}" offsetY="{CORNER[1] * NM}" spacingZ="0"/><scanSettings>'
        "<objectiveSettings><objective>20</objective></objectiveSettings><illuminationSettings>"
        "<numericalAperture>0.4</numericalAperture><illuminationSource>brightfield"
        "</illuminationSource></illuminationSettings></scanSettings></image></collection></scn>"
    )
    tifffile.imwrite(
        tmp_path / "a.scn",
        image,
        bigtiff=True,
        photometric="rgb",
        tile=(256, 256),
        compression="jpeg",
        description=xml,
        metadata=None,
        resolution=(2e4, 2e4),
        resolutionunit="CENTIMETER",
    )
    return SlideEntry("a", "p", tmp_path / "a.scn")


def corners(path: Path) -> np.ndarray:
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    return np.array([feature["geometry"]["coordinates"][0][0] for feature in features])


def test_positions_count_from_the_corner_unless_it_is_asked_otherwise(
    leica: SlideEntry, tmp_path: Path
) -> None:
    assert tile_cohort([leica], TileSettings(), tmp_path / "tiles").done == ["a"]
    tiles = read_tiles(tmp_path / "tiles" / "a.h5")
    assert (tiles.spec.bounds_x, tiles.spec.bounds_y) == CORNER
    assert (tiles.coords >= np.array(CORNER) - tiles.spec.level0_px).all()
    # Tiles of another tool learn the corner from the slide.
    export_cohort(tmp_path / "tiles", "trident", tmp_path / "trident")
    assert read_slide_tiles(tmp_path / "trident", leica).spec == tiles.spec
    for source, entries in ((tmp_path / "tiles", None), (tmp_path / "trident", [leica])):
        export_cohort(source, "geojson", tmp_path / "bounds", entries)
        found = corners(tmp_path / "bounds" / "a.geojson")[: len(tiles)]
        assert np.array_equal(found + CORNER, tiles.coords)
    export_cohort(tmp_path / "tiles", "geojson", tmp_path / "slide", origin="slide")
    assert np.array_equal(corners(tmp_path / "slide" / "a.geojson")[: len(tiles)], tiles.coords)
    with pytest.raises(InputError, match="origin has no effect on the layout clam"):
        export_cohort(tmp_path / "tiles", "clam", tmp_path / "clam", origin="slide")
