"""OME-Zarr of both versions is read like a TIFF of the same image, or clearly refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from zarr_stores import RGB, write_attributes, write_ngff

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.readers.ome_zarr import UNNAMED
from tcgn_mil.preprocessing.slides.table import search_slides
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_slide

# Older versions read format 2, but the stores are written by functions that they do not have.
pytest.importorskip("zarr", minversion="3", reason="the stores are written by zarr 3")


@pytest.fixture(scope="module")
def image(painted: tuple) -> NDArray[np.uint8]:
    crop: NDArray[np.uint8] = painted[0][600:1100, 800:1500]
    return crop


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["cyx", "yxc", "tczyx"])
def test_pixels_are_those_of_the_tiff(
    tmp_path: Path, image: NDArray[np.uint8], version: str, axes: str
) -> None:
    path = write_ngff(tmp_path / "S1.ome.zarr", image, version=version, axes=axes)
    meta = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(tmp_path / "S1.ome.tif", ome=True) as file:
        file.write(image, photometric="rgb", tile=(256, 256), subifds=2, metadata=meta)
        for step in (2, 4):
            file.write(image[::step, ::step], photometric="rgb", tile=(256, 256), subfiletype=1)
    with open_slide(path) as slide, open_slide(tmp_path / "S1.ome.tif") as tiff:
        assert (slide.mpp, slide.pixel_um, slide.bits) == (0.5, (0.5, 0.5), 8)
        assert slide.level_sizes == tiff.level_sizes
        assert slide.notes == ()
        for region in [(-20, -30, 0, 300, 200), (400, 300, 1, 400, 300), (0, 0, 2, 175, 125)]:
            assert np.array_equal(slide.read(*region), tiff.read(*region))
        assert np.array_equal(slide.thumbnail(2.0), tiff.thumbnail(2.0))


def test_units_kinds_of_pixels_and_channels(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    def read(name: str, values: NDArray[Any], **kind: Any) -> tuple[float, NDArray, tuple]:
        with open_slide(write_ngff(tmp_path / name, values, levels=1, **kind), fallback_mpp=1) as s:
            return s.mpp, s.read(0, 0, 0, 700, 500), s.notes

    mpp, pixels, _ = read("nm.zarr", image, pixel=(250, 250), unit="nanometer", version="0.5")
    assert mpp == 0.25
    assert np.array_equal(pixels, image)
    assert read("no_unit.zarr", image, unit=None)[0] == 1  # a scale without a unit is no statement
    assert np.array_equal(read("deep.zarr", image.astype(np.uint16) * 257)[1], image)
    grey = read("grey.zarr", image[..., :1], channels=None)[1]
    assert np.array_equal(grey, np.repeat(image[..., :1], 3, axis=2))
    clear = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])
    assert (read("clear.zarr", clear, channels=[*RGB, {"label": "A"}])[1] == 255).all()
    numbered = [{"label": f"Channel {i}"} for i in range(3)]
    assert read("unnamed.zarr", image, channels=numbered)[2] == (UNNAMED,)
    colours = [{"label": str(i), "color": c} for i, c in enumerate(("FF0000", "00FF00", "0000FF"))]
    assert read("colours.zarr", image, channels=colours)[2] == ()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ({"channels": [{"label": "DAPI"}, {"label": "CD3"}, {"label": "CD8"}]}, "channels DAPI"),
        ({"pixel": (0.5, 0.7)}, "not square"),
        ({"pixel": None, "unit": None}, "does not say its resolution"),
    ],
)
def test_what_is_no_brightfield_slide_is_refused(
    tmp_path: Path, image: NDArray[np.uint8], kind: dict, reason: str
) -> None:
    path = write_ngff(tmp_path / "a.zarr", image[:50, :60], levels=1, **kind)
    with pytest.raises(InputError, match=reason):
        open_slide(path)


def test_five_channels_and_floats_are_refused(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    small = image[:50, :60]
    for name, values in (("a", np.dstack([small, small])), ("b", small.astype(np.float32))):
        with pytest.raises(InputError, match="not RGB or grey"):
            open_slide(write_ngff(tmp_path / f"{name}.zarr", values, levels=1, channels=None))


def test_a_store_of_bio_formats_gives_its_section(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    store = tmp_path / "scan.zarr"
    write_attributes(store, {"bioformats2raw.layout": 3})
    write_ngff(store / "0", image[:400, :500], levels=1)
    write_ngff(store / "1", image, levels=1)
    write_ngff(store / "2", image[:300, :300], levels=1)
    (store / "OME").mkdir()
    names = ("section", "label image", "macro")
    xml = "".join(f"<Image Name='{name}'><Pixels/></Image>" for name in names)
    (store / "OME" / "METADATA.ome.xml").write_text(f"<OME>{xml}</OME>")
    with open_slide(store) as slide:
        assert slide.size == (500, 400)
        assert (
            "section (500 x 400 px) is read, and not label image (700 x 500 px)" in slide.notes[0]
        )


def test_a_folder_search_takes_a_store_as_one_slide(
    tmp_path: Path, image: NDArray[np.uint8]
) -> None:
    write_ngff(tmp_path / "cohort" / "S1.ome.zarr", image)
    write_ngff(tmp_path / "cohort" / "S2.ZARR", image, version="0.5")
    write_attributes(tmp_path / "cohort" / "table.zarr", {})
    (tmp_path / "slides.csv").write_text("path\ncohort/S1.ome.zarr\n")
    found = search_slides(tmp_path / "cohort")
    assert [entry.slide_id for entry in found.entries] == ["S1", "S2", "table"]
    assert found.left_out == []
    with pytest.raises(InputError, match="without the metadata of OME-Zarr"):
        found.entries[2].open()
    for source in (tmp_path / "slides.csv", tmp_path / "cohort" / "S1.ome.zarr"):
        (entry,) = search_slides(source).entries
        assert entry.slide_id == "S1"
    tiles = tile_slide(entry, TileSettings(), tmp_path / "tiles")
    assert len(tiles) > 0
    with pytest.raises(InputError, match=r"0\.5 µm/px, but 0.25 was given"):
        search_slides(entry.path, mpp=0.25).entries[0].open()


def test_missing_chunks_are_noted_and_a_store_without_any_is_refused(
    tmp_path: Path, image: NDArray[np.uint8]
) -> None:
    path = write_ngff(tmp_path / "a.zarr", image, levels=1)
    chunks = sorted(each for each in (path / "0").iterdir() if each.name[0].isdigit())
    chunks[0].unlink()
    with open_slide(path) as slide:
        assert (
            "1 of 6 chunks of its finest level are not stored and are read as 0" in slide.notes[0]
        )
    for chunk in chunks[1:]:
        chunk.unlink()
    with pytest.raises(InputError, match="no chunk of its finest level is stored"):
        open_slide(path)


def test_nothing_outside_the_store_is_read(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    write_ngff(tmp_path / "other.zarr", image, levels=1)
    linked = write_ngff(tmp_path / "linked.zarr", image, levels=1)
    chunk = linked / "0" / "0.0.0"
    chunk.unlink()
    chunk.symlink_to(tmp_path / "other.zarr" / "0" / "0.0.0")
    with pytest.raises(InputError, match="a link that leads out of the store"):
        open_slide(linked)
    climbing = write_ngff(tmp_path / "climbing.zarr", image, levels=1)
    own = json.loads((climbing / ".zattrs").read_text())
    own["multiscales"][0]["datasets"][0]["path"] = "../other.zarr/0"
    (climbing / ".zattrs").write_text(json.dumps(own))
    with pytest.raises(InputError, match="no path inside the store"):
        open_slide(climbing)
    (tmp_path / "link.zarr").symlink_to(tmp_path / "other.zarr")  # the store itself may be linked
    with open_slide(tmp_path / "link.zarr") as slide:
        assert slide.size == (700, 500)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shape": [3, 10**7, 10**7]}, "claims 300000.0 GB"),
        ({"shape": [3, 10**5, 10**5], "chunks": [3, 10**5, 10**5]}, "more than 1.2 GB of memory"),
        ({"compressor": {"id": "unheard"}}, "cannot be read as a Zarr array"),
    ],
)
def test_claims_are_checked_before_anything_is_read(
    tmp_path: Path, image: NDArray[np.uint8], change: dict, reason: str
) -> None:
    path = write_ngff(tmp_path / "a.zarr", image, levels=1)
    metadata = path / "0" / ".zarray"
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | change))
    with pytest.raises(InputError, match=reason):
        open_slide(path)


def test_a_level_that_is_no_smaller_picture_is_refused(
    tmp_path: Path, image: NDArray[np.uint8]
) -> None:
    path = write_ngff(tmp_path / "a.zarr", image, levels=2)
    own = json.loads((path / ".zattrs").read_text())
    own["multiscales"][0]["datasets"].reverse()
    (path / ".zattrs").write_text(json.dumps(own))
    with pytest.raises(InputError, match="of which it is no smaller picture"):
        open_slide(path)


def test_a_damaged_chunk_is_an_error_of_this_slide(
    tmp_path: Path, image: NDArray[np.uint8]
) -> None:
    path = write_ngff(tmp_path / "a.zarr", image, levels=1)
    (path / "0" / "0.0.0").write_bytes(b"not a chunk")
    with open_slide(path) as slide, pytest.raises(InputError, match="is damaged"):
        slide.read(0, 0, 0, 100, 100)
