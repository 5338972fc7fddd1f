"""Planes, 16 bits, grey values and OME-XML of any writer are read alike by all readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.readers.ome_xml import read_ome_xml
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.settings import TileSettings
from tcgn_mil.preprocessing.tiles.tiling import tile_slide

CM = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
TILED: dict[str, Any] = {"tile": (256, 256), "compression": "deflate"}
META = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
LAYOUTS = pytest.mark.parametrize("layout", [{}, TILED], ids=["strips", "tiles"])


def centre(path: Path) -> NDArray[np.uint8]:
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.5)
        return slide.read(900, 700, 0, 300, 200)


@LAYOUTS
@pytest.mark.parametrize("ome", [False, True])
def test_planes_and_16_bits_give_the_pixels_of_8_bits(
    tmp_path: Path, painted: tuple, layout: dict, ome: bool
) -> None:
    image = painted[0]
    planes, deep = np.moveaxis(image, 2, 0), image.astype(np.uint16) * 257
    end = ".ome.tif" if ome else ".tif"
    extra = layout if ome else {**layout, **CM}

    def write(name: str, values: NDArray, axes: str, **kind: Any) -> NDArray[np.uint8]:
        metadata = {"metadata": {**META, "axes": axes}} if ome else {}
        tifffile.imwrite(tmp_path / (name + end), values, **kind, **extra, **metadata)
        return centre(tmp_path / (name + end))

    expected = image[700:900, 900:1200]
    assert np.array_equal(write("rgb", image, "YXS", photometric="rgb"), expected)
    separate = {"photometric": "rgb", "planarconfig": "separate"}
    assert np.array_equal(write("planar", planes, "CYX", **separate), expected)
    assert np.array_equal(write("deep", deep, "YXS", photometric="rgb"), expected)
    grey = write("grey", image[..., 1], "YX", photometric="minisblack")
    assert np.array_equal(grey, np.repeat(expected[..., 1:2], 3, axis=2))


@LAYOUTS
def test_16_bits_of_which_white_is_unknown_are_refused(
    tmp_path: Path, painted: tuple, layout: dict
) -> None:
    dark = painted[0].astype(np.uint16) * 16  # 12 bits
    for name, metadata in (("a.tif", {}), ("b.ome.tif", {"metadata": {**META, "axes": "YXS"}})):
        tifffile.imwrite(tmp_path / name, dark, photometric="rgb", **layout, **CM, **metadata)
        entry = SlideEntry("a", "p", tmp_path / name)
        with pytest.raises(InputError, match=r"16 bits.*white is not known"):
            tile_slide(entry, TileSettings(), tmp_path / "tiles")


@LAYOUTS
def test_a_grey_slide_is_tiled_like_its_colours(
    tmp_path: Path, painted: tuple, pyramid: Path, layout: dict
) -> None:
    grey = np.rint(painted[0] @ [0.3, 0.59, 0.11]).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="minisblack", **layout, **CM)
    tiles, colour = (
        tile_slide(SlideEntry(path.stem, "p", path), TileSettings(), tmp_path / "tiles")
        for path in (tmp_path / "a.tif", pyramid)
    )
    assert abs(len(tiles) - len(colour)) <= 0.1 * len(colour)
    assert tiles.notes == ("its pixels are grey; encoders were trained on stained colours",)
    assert colour.notes == ()
    tifffile.imwrite(tmp_path / "b.tif", 255 - grey, photometric="minisblack", **layout, **CM)
    with pytest.raises(InputError, match="grey and dark"):
        tile_slide(SlideEntry("b", "p", tmp_path / "b.tif"), TileSettings(), tmp_path / "tiles")


def own_xml(size: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="300" SizeY="300"'
        f' SizeC="3" SizeZ="1" SizeT="1" {size}><Channel ID="Channel:0:0" SamplesPerPixel="3"/>'
        '<TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )


@pytest.mark.parametrize(
    "size",
    [
        "PhysicalSizeX='0.5' PhysicalSizeY='0.5'",
        'PhysicalSizeX="0.5" PhysicalSizeXUnit="&#181;m" PhysicalSizeY="500" '
        'PhysicalSizeYUnit="nm"',
        'PhysicalSizeX="0.5" PhysicalSizeXUnit="&#xB5;m" PhysicalSizeY="0.5"',
        'PhysicalSizeX="0.5" PhysicalSizeXUnit="micron" PhysicalSizeY="5e-4" '
        'PhysicalSizeYUnit="mm"',
        'PhysicalSizeX="9" PhysicalSizeXUnit="pixel" PhysicalSizeY="9"',  # then the tags
        "",
    ],
)
def test_ome_xml_is_read_as_xml_and_tags_stand_in(
    tmp_path: Path, painted: tuple, size: str
) -> None:
    path = tmp_path / "a.ome.tif"
    text = own_xml(size).encode()
    image = painted[0][700:1000, 900:1200]
    tifffile.imwrite(path, image, photometric="rgb", description=text, metadata=None, **TILED, **CM)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.5)
        assert slide.notes == ()


def test_ome_xml_and_tags_that_differ_are_noted(tmp_path: Path, painted: tuple) -> None:
    path = tmp_path / "a.ome.tif"
    meta = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "axes": "YXS"}
    tifffile.imwrite(path, painted[0][:300, :300], photometric="rgb", metadata=meta, **CM)
    with open_slide(path) as slide:
        assert slide.mpp == 0.25
        assert "TIFF tags say 0.5 µm/px, its OME-XML 0.25" in slide.notes[0]


def test_ome_xml_with_a_document_type_is_not_read() -> None:
    bomb = '<!DOCTYPE OME [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    image = "<OME><Image Name='{}'><Pixels PhysicalSizeX='1' PhysicalSizeY='1'/></Image></OME>"
    assert read_ome_xml(image.format("x"))[0].name == "x"
    assert read_ome_xml(bomb + image.format("&b;")) == []
    assert read_ome_xml(image.format("x") + "<") != []


def test_the_section_is_chosen_among_the_images_of_a_file(tmp_path: Path, painted: tuple) -> None:
    kind: dict[str, Any] = {"photometric": "rgb", **TILED}
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        big = np.full((2500, 2500, 3), 200, np.uint8)
        file.write(big, metadata={**META, "Name": "macro image", "axes": "YXS"}, **kind)
        file.write(painted[0], metadata={**META, "Name": "section", "axes": "YXS"}, **kind)
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert slide.size == (2400, 1800)
        assert slide.notes == (
            "of 2 images in the file, section (2400 x 1800 px) is read, and not macro image"
            " (2500 x 2500 px)",
        )
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        for image in (painted[0], painted[0][::8, ::8]):
            file.write(image, photometric="rgb", metadata=None, **CM)
    with open_slide(tmp_path / "b.tif") as slide:
        assert slide.notes == ("of 2 pages in the file, the first (2400 x 1800 px) is read",)


def test_three_grey_planes_are_colours_only_if_they_are_named_so(
    tmp_path: Path, painted: tuple
) -> None:
    planes = np.ascontiguousarray(np.moveaxis(painted[0][:300, :300], 2, 0))

    def write(name: str, channels: list[str]) -> Path:
        meta = {**META, "axes": "CYX", "Channel": {"Name": channels}}
        tifffile.imwrite(tmp_path / name, planes, photometric="minisblack", metadata=meta)
        return tmp_path / name

    with open_slide(write("a.ome.tif", ["Red", "Green", "Blue"])) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 300, 300), painted[0][:300, :300])
    with pytest.raises(InputError, match=r"CYX .*planes of single channels.*RGB"):
        open_slide(write("b.ome.tif", ["DAPI", "CD3", "CD8"]))


@LAYOUTS
def test_pixels_that_are_neither_grey_nor_rgb_are_refused(
    tmp_path: Path, painted: tuple, layout: dict
) -> None:
    image = painted[0][:600, :600]
    five = np.dstack([image, image[..., :2]])
    tifffile.imwrite(tmp_path / "a.tif", five, photometric="rgb", **layout, **CM)
    with pytest.raises(InputError, match="5 samples of 8 bits"):
        open_slide(tmp_path / "a.tif")
    deep = image.astype(np.uint32)
    tifffile.imwrite(tmp_path / "b.tif", deep, photometric="rgb", **layout, **CM)
    with pytest.raises(InputError, match="3 samples of 32 bits"):
        open_slide(tmp_path / "b.tif")
    form = {**layout, "compression": "jpeg2000"}
    tifffile.imwrite(tmp_path / "c.tif", image, photometric="rgb", **form, **CM)
    with pytest.raises(InputError, match=r"in a form that .*convert it to a tiled TIFF"):
        open_slide(tmp_path / "c.tif")


@LAYOUTS
@pytest.mark.parametrize("fourth", [0, 255])
@pytest.mark.parametrize("end", [".tif", ".ome.tif"])
def test_a_fourth_sample_is_transparency_only_if_the_file_says_so(
    tmp_path: Path, painted: tuple, layout: dict, fourth: int, end: str
) -> None:
    image = painted[0]
    four = np.dstack([image, np.full(image.shape[:2], fourth, np.uint8)])
    kind: dict[str, Any] = {"photometric": "rgb", **layout, **CM}
    if end == ".ome.tif":
        kind["metadata"] = {**META, "axes": "YXS"}
    mask, alpha = tmp_path / f"mask{end}", tmp_path / f"alpha{end}"
    tifffile.imwrite(mask, four, extrasamples=["unspecified"], **kind)
    assert np.array_equal(centre(mask), image[700:900, 900:1200])
    with open_slide(mask) as slide:
        assert "of no stated kind and is not read" in slide.notes[0]
    tifffile.imwrite(alpha, four, extrasamples=["unassalpha"], **kind)
    seen = centre(alpha)
    assert np.array_equal(seen, image[700:900, 900:1200] if fourth else np.full_like(seen, 255))
