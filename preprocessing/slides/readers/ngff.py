"""Read the metadata of OME-Zarr images (OME-NGFF 0.4 and 0.5; Moore et al., 2023).

An image is a group with ``multiscales``: its axes with their units, and the paths of its pyramid
levels with the scale of each. Version 0.5 puts them under the key ``ome``, and is Zarr format 3.
Bio-Formats writes several images of a file into groups 0, 1, ... of a store, and describes them in
``OME/METADATA.ome.xml``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.array_pyramid import PRIMARIES
from tcgn_mil.preprocessing.slides.readers.ome_xml import UM_PER_UNIT, OmeImage, read_ome_xml
from tcgn_mil.preprocessing.zarr_store import inside, is_store, read_attributes
from tcgn_mil.text import preview

_UNITS = {
    **UM_PER_UNIT,
    "angstrom": 1e-4,
    "picometer": 1e-6,
    "nanometer": 1e-3,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
    "inch": 25_400.0,
}
_AXES_BEFORE_0_3 = ("t", "c", "z", "y", "x")
_MAX_LEVELS = 64
_MAX_XML = 64 * 2**20
_NO_NAME = re.compile(r"(channel)?[ _:#]*\d*(:\d+)*")  # "", "0", "Channel 0", "Channel:0:1"
_PRIMARY_COLOURS = ("ff0000", "00ff00", "0000ff")
WRITE_AGAIN = "write it again by the tool that made it, as OME-Zarr 0.4 or 0.5"


@dataclass(frozen=True)
class NgffImage:
    """Metadata of one image.

    Attributes
    ----------
    path
        Folder of the image.
    name
        Name of the image; may be empty.
    axes
        Names of the axes in lower case, in their order.
    levels
        Folders of the pyramid levels.
    pixel_um
        Width and height of a pixel of level 0 in micrometres; None if not stated in a unit of
        length.
    channels
        Names of the channels; those without a name of their own are empty.
    are_primaries
        Whether the first three channels are named, or all three coloured, as red, green and blue.
    """

    path: Path
    name: str
    axes: tuple[str, ...]
    levels: tuple[Path, ...]
    pixel_um: tuple[float, float] | None
    channels: tuple[str, ...] = ()
    are_primaries: bool = False


def ngff_attributes(group: Path) -> dict[str, Any]:
    """Read the attributes of a group that belong to OME-NGFF, of either version."""
    attributes = read_attributes(group)
    own = attributes.get("ome", attributes)
    return own if isinstance(own, dict) else {}


def is_ngff(path: Path) -> bool:
    """Return whether a folder is an image of OME-Zarr, or a store that Bio-Formats wrote."""
    return is_store(path) and bool(
        {"multiscales", "bioformats2raw.layout"} & set(ngff_attributes(path))
    )


def read_images(path: Path) -> list[NgffImage]:
    """Read the metadata of all images of a store.

    Parameters
    ----------
    path
        Folder of an image, or of a store of several.

    Raises
    ------
    InputError
        If the store is a plate of wells, or a metadata field is missing or damaged.
    """
    attributes = ngff_attributes(path)
    if "multiscales" in attributes:
        return [_read_image(path, attributes, OmeImage(""))]
    if "plate" in attributes or "well" in attributes:
        raise InputError(
            "is a plate of wells, not a slide",
            path=path,
            fix="give the folder of one image in it",
        )
    places = _series(path)
    described = _described(path)
    described += [OmeImage("")] * (len(places) - len(described))
    images = [
        _read_image(place, ngff_attributes(place), own)
        for place, own in zip(places, described, strict=False)
    ]
    if not images:
        raise InputError("holds no image", path=path, fix=WRITE_AGAIN)
    return images


def _series(path: Path) -> list[Path]:
    """Return the groups of the images of a store that Bio-Formats wrote."""
    named = ngff_attributes(path / "OME").get("series")
    if isinstance(named, list):
        return [inside(path, name) for name in named]
    numbers = sorted(int(each.name) for each in path.iterdir() if each.name.isdecimal())
    return [path / str(number) for number in numbers]


def _described(path: Path) -> list[OmeImage]:
    """Return the images of the store's OME-XML; empty if there is none."""
    file = path / "OME" / "METADATA.ome.xml"
    if not file.is_file() or file.stat().st_size > _MAX_XML:
        return []
    return read_ome_xml(file.read_text(encoding="utf-8", errors="replace"))


def _read_image(path: Path, attributes: dict[str, Any], own: OmeImage) -> NgffImage:
    multiscales = attributes.get("multiscales")
    first = multiscales[0] if isinstance(multiscales, list) and multiscales else None
    datasets = first.get("datasets") if isinstance(first, dict) else None
    if not isinstance(datasets, list) or not 0 < len(datasets) <= _MAX_LEVELS:
        raise InputError("has no list of pyramid levels", path=path, fix=WRITE_AGAIN)
    assert isinstance(first, dict)
    stated = first.get("axes") or _AXES_BEFORE_0_3
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in stated]
    names = tuple(str(axis.get("name")).lower() for axis in axes)
    if not {"x", "y"} <= set(names) or len(set(names)) < len(names):
        raise InputError(f"has axes {preview(names)}, not y and x", path=path, fix=WRITE_AGAIN)
    levels = tuple(
        inside(path, each.get("path") if isinstance(each, dict) else None) for each in datasets
    )
    scales = [
        _scale(each.get("coordinateTransformations"), len(axes)) for each in (datasets[0], first)
    ]
    pixel_um = _pixel_um(names, axes, scales) or own.pixel_um
    channels, colours = _channels(attributes.get("omero"))
    channels = channels if any(channels) else [_named(name) for name in own.channels]
    primaries = [name.lower() for name in channels[:3]] in PRIMARIES or (
        not any(channels) and tuple(colours) == _PRIMARY_COLOURS
    )
    name = own.name or str(first.get("name") or "")
    return NgffImage(path, name, names, levels, pixel_um, tuple(channels), primaries)


def _scale(transformations: object, number: int) -> list[float] | None:
    """Return the product of the scales of a list of transformations; None if they have none.

    SpatialData lists the transformations to its coordinate systems in the same place. They have an
    ``output``, and are no statement about the size of a pixel.
    """
    product = None
    for each in transformations if isinstance(transformations, list) else ():
        if not isinstance(each, dict) or "output" in each or each.get("type") != "scale":
            continue
        values = each.get("scale")
        if isinstance(values, list) and len(values) == number:
            try:
                product = [
                    old * float(new)
                    for old, new in zip(product or [1.0] * number, values, strict=True)
                ]
            except (TypeError, ValueError):
                return None
    return product


def _pixel_um(
    names: Sequence[str], axes: Sequence[dict[str, Any]], scales: Sequence[list[float] | None]
) -> tuple[float, float] | None:
    if scales[0] is None:
        return None
    sides = []
    for axis in ("x", "y"):
        place = names.index(axis)
        unit = _UNITS.get(str(axes[place].get("unit", "")).strip())
        side = math.prod(scale[place] for scale in scales if scale is not None) * (unit or 0)
        if not 0 < side < math.inf:
            return None
        sides.append(side)
    return sides[0], sides[1]


def _channels(omero: object) -> tuple[list[str], list[str]]:
    """Return the names and the colours of the channels that the metadata for viewers give."""
    listed = omero.get("channels") if isinstance(omero, dict) else None
    each = [channel for channel in listed or () if isinstance(channel, dict)]
    return (
        [_named(str(channel.get("label", ""))) for channel in each],
        [str(channel.get("color", "")).lower().lstrip("#") for channel in each],
    )


def _named(label: str) -> str:
    """Return the name of a channel; empty for a number or ``Channel 0``."""
    name = label.strip()
    return "" if _NO_NAME.fullmatch(name.lower()) else name
