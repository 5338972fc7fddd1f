"""Reader of OME-Zarr slides (OME-NGFF 0.4 and 0.5), which are folders of many small files.

Three channels are red, green and blue. The µm per pixel are those of the image's scale, if its axes
have a unit of length.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.slides.readers.array_pyramid import ArrayPyramid
from tcgn_mil.preprocessing.slides.readers.base import NO_SECTION, choose_mpp
from tcgn_mil.preprocessing.slides.readers.ngff import (
    WRITE_AGAIN,
    NgffImage,
    is_ngff,
    read_images,
)
from tcgn_mil.preprocessing.slides.readers.registry import SlideReader
from tcgn_mil.preprocessing.zarr_store import (
    COPY_AGAIN,
    DAMAGED,
    SUFFIX,
    StoredArray,
    check_links,
    is_store,
    open_array,
    sample_files,
)
from tcgn_mil.text import preview

UNNAMED = "its three channels have no names and are read as red, green and blue"


def is_ome_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr store by its name, or an image of OME-Zarr."""
    return path.is_dir() and (path.suffix.lower() == SUFFIX or is_ngff(path))


class OmeZarrSlide(ArrayPyramid):
    """The section in a store of OME-Zarr, with its pyramid levels.

    Of several images the largest is read that is RGB or grey and is not named as a label, a macro
    image or the like. The others are named in `notes`.

    Parameters
    ----------
    path, mpp, fallback_mpp
        As for :func:`~.registry.open_slide`.

    Attributes
    ----------
    is_grey
        Whether the image has one channel.

    Raises
    ------
    InputError
        If the store is damaged or leads out of itself, no image is RGB or grey of 8 or 16 bits, or
        the resolution is unknown.
    """

    errors = DAMAGED

    def __init__(self, path: Path, mpp: float | None, fallback_mpp: float | None) -> None:
        self.path = path
        if not is_ngff(path):
            raise _no_slide(path)
        check_links(path)
        self._opened: dict[Path, StoredArray] = {}
        image = self._choose_image(read_images(path))
        levels = [self._open(level) for level in image.levels]
        self._check_levels(image, levels)
        self._set_levels([level.array for level in levels], "".join(image.axes).upper())
        self.is_grey = dict(_sides(image, levels[0])).get("c", 1) == 1
        self.pixel_um = image.pixel_um
        self.mpp = choose_mpp(self.pixel_um, mpp, fallback_mpp, path=path)

    def _choose_image(self, images: list[NgffImage]) -> NgffImage:
        """Return the image to read, and note the others."""
        if len(images) == 1:
            self._check_readable(images[0])
            return images[0]
        readable, reasons = [], []
        for image in images:
            try:
                self._check_readable(image)
                readable.append(image)
            except InputError as error:
                reasons.append(error)
        if not readable:
            raise reasons[0]
        sections = [image for image in readable if not NO_SECTION.search(image.name)]
        chosen = max(
            sections or readable,
            key=lambda image: math.prod(self._open(image.levels[0]).array.shape),
        )
        others = [self._label(image) for image in images if image is not chosen]
        self.notes += (
            f"of {len(images)} images in the file, {self._label(chosen)} is read, and not"
            f" {preview(others)}",
        )
        return chosen

    def _label(self, image: NgffImage) -> str:
        sides = dict(_sides(image, self._open(image.levels[0])))
        return f"{image.name or image.path.name} ({sides.get('x', 0)} x {sides.get('y', 0)} px)"

    def _check_readable(self, image: NgffImage) -> None:
        """Raise InputError if an image is neither RGB, RGBA nor grey, of 8 or 16 bits."""
        array = self._open(image.levels[0]).array
        if len(array.shape) != len(image.axes):
            raise InputError(
                f"has {len(image.axes)} axes, but its level has {len(array.shape)}",
                path=image.path,
                fix=WRITE_AGAIN,
            )
        sides = dict(zip(image.axes, map(int, array.shape), strict=True))
        channels, named = sides.get("c", 1), [name for name in image.channels if name]
        coloured = image.are_primaries or (channels == 3 and not named)
        if (
            not set(sides) <= set("tczyx")
            or any(sides.get(axis, 1) != 1 for axis in "tz")
            or array.dtype not in (np.uint8, np.uint16)
            or not (channels == 1 or (channels in (3, 4) and coloured))
        ):
            of = f" with the channels {preview(named)}" if named else ""
            shown = ", ".join(f"{axis} {side}" for axis, side in sides.items())
            raise InputError(
                f"its image{of} has axes {shown} of {array.dtype}, not RGB or grey of 8 or 16 bits"
                " in one plane",
                path=image.path,
                fix="export the brightfield image as RGB, with channels named red, green and blue",
            )

    def _check_levels(self, image: NgffImage, levels: list[StoredArray]) -> None:
        """Raise InputError if levels are of several kinds, and note what is not stored."""
        kinds = {
            (level.array.dtype, *(side for axis, side in _sides(image, level) if axis not in "yx"))
            for level in levels
        }
        if len(kinds) > 1:
            raise InputError(
                "its pyramid levels differ in their channels or bits",
                path=image.path,
                fix=WRITE_AGAIN,
            )
        finest = levels[0]
        sizes = [
            (sides["x"], sides["y"]) for sides in (dict(_sides(image, each)) for each in levels)
        ]
        for before, after in pairwise(sizes):
            if not _is_coarser(before, after):
                raise InputError(
                    f"its pyramid level of {after[0]} x {after[1]} px follows one of {before[0]} x"
                    f" {before[1]} px, of which it is no smaller picture",
                    path=image.path,
                    fix=WRITE_AGAIN,
                )
        if not finest.stored:
            raise InputError(
                "holds no pixels: no chunk of its finest level is stored",
                path=image.path,
                fix=COPY_AGAIN,
            )
        if finest.stored < finest.chunks:
            self.notes += (
                f"{finest.chunks - finest.stored} of {finest.chunks} chunks of its finest level are"
                f" not stored and are read as {finest.array.fill_value}: some tools leave out empty"
                " ones, otherwise the copy is not complete",
            )
        if not image.are_primaries and dict(_sides(image, finest)).get("c") == 3:
            self.notes += (UNNAMED,)

    def _open(self, level: Path) -> StoredArray:
        if level not in self._opened:
            self._opened[level] = open_array(level)
        return self._opened[level]

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"is damaged ({(str(error) or type(error).__name__)[:200]})",
            path=self.path,
            fix=COPY_AGAIN,
        )

    def close(self) -> None:
        self._levels = ()


def _sides(image: NgffImage, level: StoredArray) -> list[tuple[str, int]]:
    """Return the name and the length of each axis of a level."""
    return list(zip(image.axes, map(int, level.array.shape), strict=False))


def _is_coarser(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Return whether a level is a smaller picture of the one before, up to a pixel on each side."""
    smaller = after[0] <= before[0] and after[1] <= before[1] and min(after) > 0
    return smaller and abs(after[0] * before[1] - after[1] * before[0]) <= sum(before)


def _no_slide(path: Path) -> InputError:
    """Return the error for a store that is no OME-Zarr, and name the images that it may hold."""
    if not is_store(path):
        return InputError(
            "is no Zarr store: it has neither zarr.json nor .zgroup", path=path, fix=COPY_AGAIN
        )
    images = path / "images"
    names = (
        sorted(each.name for each in images.iterdir() if is_ngff(each)) if images.is_dir() else []
    )
    if names:
        return InputError(
            f"is a store of SpatialData, not a slide; it holds the images {preview(names)}",
            path=path,
            fix=f"give one of its images, for example {images / names[0]}, or read its spots with"
            " `tcgn-mil spots`",
        )
    return InputError(
        "is a Zarr store without the metadata of OME-Zarr (multiscales)",
        path=path,
        fix="give the folder of an image that was written as OME-Zarr 0.4 or 0.5",
    )


READER = SlideReader(
    "OME-Zarr", frozenset({SUFFIX}), is_ome_zarr, OmeZarrSlide, folders=True, files=sample_files
)
