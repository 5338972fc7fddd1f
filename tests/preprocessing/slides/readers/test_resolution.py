"""One rule of resolution for all readers: files, users who know better, and uneven pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.preprocessing.interop.tile_source import TileSource
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.table import SlideEntry, find_slides
from tcgn_mil.preprocessing.tiles.cohort import tile_cohort
from tcgn_mil.preprocessing.tiles.settings import TileSettings

TILED = {"tile": (256, 256), "compression": "deflate"}
Write = Callable[[Path, NDArray[np.uint8], float, float], Path]


def tags(x_um: float, y_um: float) -> dict[str, object]:
    return {"resolution": (1e4 / x_um, 1e4 / y_um), "resolutionunit": "CENTIMETER"}


def strips(path: Path, image: NDArray[np.uint8], x: float, y: float) -> Path:
    tifffile.imwrite(path, image, photometric="rgb", **tags(x, y))
    return path


def tiled(path: Path, image: NDArray[np.uint8], x: float, y: float) -> Path:
    tifffile.imwrite(path, image, photometric="rgb", **TILED, **tags(x, y))
    return path


def ome(path: Path, image: NDArray[np.uint8], x: float, y: float) -> Path:
    path = path.with_name(path.stem + ".ome.tif")
    size = {"PhysicalSizeX": x, "PhysicalSizeY": y}
    tifffile.imwrite(path, image, photometric="rgb", metadata={"axes": "YXS", **size}, **TILED)
    return path


READERS = pytest.mark.parametrize("write", [strips, tiled, ome])


@READERS
def test_what_contradicts_the_file_is_refused_in_a_folder_too(
    tmp_path: Path, painted: tuple, write: Write
) -> None:
    (tmp_path / "s").mkdir()
    path = write(tmp_path / "s" / "a.tif", painted[0][:400, :400], 0.0685, 0.0685)
    for source in (path, tmp_path / "s"):
        (entry,) = find_slides(source, mpp=0.685)
        with pytest.raises(InputError, match=r"says 0\.0685 .* 0\.685 was given.*--override-mpp"):
            entry.open()
        (entry,) = find_slides(source, mpp=0.0684)  # within 2 %
        with entry.open() as slide:
            assert slide.mpp == pytest.approx(0.0685, rel=1e-3)


@READERS
def test_a_wrong_file_is_overridden_and_this_is_recorded(
    tmp_path: Path, painted: tuple, write: Write
) -> None:
    (tmp_path / "s").mkdir()
    path = write(tmp_path / "s" / "a.tif", painted[0], 0.05, 0.06)  # truly 0.5
    (tmp_path / "t.csv").write_text(f"path,mpp,override_mpp\ns/{path.name},0.5,Yes\n")
    with pytest.raises(InputError, match=r"not square.*--override-mpp"):
        open_slide(path)
    for source, override in ((tmp_path / "s", True), (tmp_path / "t.csv", False)):
        entries = find_slides(source, mpp=0.5, override_mpp=override)
        done, failures = tile_cohort(entries, TileSettings(), tmp_path / "tiles")
        assert (done, failures) == (["a"], [])
        tiles = read_tiles(tmp_path / "tiles" / "a.h5")
        assert (tiles.spec.slide_mpp, tiles.spec.level0_px) == (0.5, pytest.approx(154.56))
        assert tiles.spec.file_mpp == pytest.approx(0.055)
        assert "overridden with 0.5" in tiles.notes[0]
        with TileSource({"a": entries[0]}).open(tiles, 8) as batches:
            assert next(iter(batches))[0].shape[1:] == (112, 112, 3)


def test_tiles_of_an_overridden_slide_are_read_without_the_override(
    tmp_path: Path, painted: tuple
) -> None:
    path = tiled(tmp_path / "a.tif", painted[0], 0.05, 0.05)
    tile_cohort(find_slides(path, mpp=0.5, override_mpp=True), TileSettings(), tmp_path / "t")
    source = TileSource.from_slides(path, tiles=tmp_path / "t")
    tiles = source.find("a")
    with source.open(tiles, len(tiles)) as batches:
        ((pixels, _),) = batches
    assert len(pixels) == len(tiles) > 10
    other = TileSource({"a": SlideEntry("a", "a", path, mpp=1.0, override_mpp=True)})
    with pytest.raises(InputError, match="laid for a slide of"), other.open(tiles, 8) as batches:
        next(iter(batches))


def test_an_override_needs_a_resolution(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"x")
    with pytest.raises(InputError, match="slide a is to be overridden, but no other"):
        find_slides(tmp_path, override_mpp=True)
    (tmp_path / "t.csv").write_text("path,override_mpp\na.svs,0.5\n")
    with pytest.raises(InputError, match="neither yes nor no"):
        find_slides(tmp_path / "t.csv")


@READERS
def test_uneven_pixels_are_refused_by_every_reader(
    tmp_path: Path, painted: tuple, write: Write
) -> None:
    path = write(tmp_path / "a.tif", painted[0][:400, :400], 0.5, 0.25)
    for given in ({}, {"mpp": 0.5}, {"fallback_mpp": 0.5}):
        with pytest.raises(InputError, match=r"not square: 0\.5 by 0\.25"):
            open_slide(path, **given)
    assert open_slide(path, mpp=0.5, override_mpp=True).mpp == 0.5


@pytest.mark.parametrize("layout", [{}, TILED])
def test_inches_are_read_and_a_missing_unit_is_not_guessed(
    tmp_path: Path, painted: tuple, layout: dict
) -> None:
    kinds = {"photometric": "rgb", **layout}
    image = painted[0][:400, :400]
    inches = {"resolution": (50_800, 50_800), "resolutionunit": "INCH"}
    tifffile.imwrite(tmp_path / "a.tif", image, **kinds, **inches)
    assert open_slide(tmp_path / "a.tif").mpp == pytest.approx(0.5)
    # 10x Genomics writes BigTIFF under the suffix .btf; a download may have no suffix at all.
    for name in ("a.btf", "a.TF8", "a"):
        tifffile.imwrite(tmp_path / name, image, bigtiff=True, **kinds, **inches)
        assert open_slide(tmp_path / name).mpp == pytest.approx(0.5)
    no_unit = {"resolution": (20_000, 20_000), "resolutionunit": "NONE"}
    tifffile.imwrite(tmp_path / "b.tif", image, **kinds, **no_unit)
    with pytest.raises(InputError, match="does not say its resolution"):
        open_slide(tmp_path / "b.tif")
