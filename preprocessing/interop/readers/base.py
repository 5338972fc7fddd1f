"""Parts that the readers of other tools' tile files share: the result, and checked attributes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import check_coords
from tcgn_mil.types.tile_geometry import TileSpec

# Bounds on what a file may claim, so that a damaged or hostile one cannot fill the memory.
MAX_TILES = 20_000_000
MAX_SIDE_PX = 100_000
MPP_TOLERANCE = 0.02  # relative; resolutions and downsamples are rounded by every tool


class ApproximateSize(NamedTuple):
    """Size of level 0 of a slide, as far as a tile file states it.

    Attributes
    ----------
    size
        Width and height in pixels.
    tolerance_px
        Number of pixels by which each of the two may be wrong.
    """

    size: tuple[int, int]
    tolerance_px: float


@dataclass(frozen=True)
class LaidTiles:
    """Contents of another tool's tile file, as far as they can be understood without the slide.

    Attributes
    ----------
    layout
        Name of the layout.
    coords
        (N, 2) int64, top-left corners in level-0 pixels.
    level0_px
        Side of a tile in level-0 pixels.
    tile_px, stride_px
        Side and step of the tiles in the pixels that the tool gives to an encoder.
    name
        Name of the slide according to the file; empty if the file does not state it.
    name_is_slide
        False for layouts whose name may differ from the slide's, so that it is not checked.
    slide_size
        Size of level 0; None if the file does not state it.
    slide_mpp
        Micrometres per pixel of level 0; None if the file does not state it.
    spec
        Exact geometry, in files that this package wrote; None in others.
    """

    layout: str
    coords: NDArray[np.int64]
    level0_px: float
    tile_px: int
    stride_px: int
    name: str = ""
    name_is_slide: bool = True
    slide_size: ApproximateSize | None = None
    slide_mpp: float | None = None
    spec: TileSpec | None = None


@dataclass(frozen=True)
class TileLayout:
    """Layout of another tool's tile files.

    Attributes
    ----------
    name
        Name of the layout in lower case, unique in the registry.
    recognises
        Returns whether an open file is of this layout, judged by its contents.
    read
        Reads an open file; the second argument is its path, for error messages. It raises
        InputError if something is missing or implausible.
    """

    name: str
    recognises: Callable[[h5py.File], bool]
    read: Callable[[h5py.File, str | Path], LaidTiles]


def has_coords(file: h5py.File) -> bool:
    """Return whether a file holds a dataset `coords` itself, and not a link to another file."""
    if isinstance(file.get("coords", getlink=True), h5py.ExternalLink):
        return False
    return isinstance(file.get("coords"), h5py.Dataset)


def read_coords(file: h5py.File, path: str | Path) -> NDArray[np.int64]:
    """Read the dataset `coords`.

    Returns
    -------
    (N, 2) int64
        Level-0 corners. For a slide without tiles N is 0; tools write such a dataset with the shape
        (0, 2) or (0,).

    Raises
    ------
    InputError
        If the shape, the number of tiles or a coordinate is invalid, or the data lies in another
        file, which is not read because the path of that file comes from outside.
    """
    dataset = file["coords"]
    if dataset.external or dataset.is_virtual:
        raise InputError(
            "its coords lie in another file", path=path, fix="give a file that holds its own data"
        )
    shape = dataset.shape
    if len(shape) == 3 and shape[0] == 1:  # a batch of one slide
        shape = shape[1:]
    if shape and not shape[0]:
        return np.empty((0, 2), dtype=np.int64)
    if len(shape) == 2 and shape[0] > MAX_TILES:
        raise InputError(
            f"has {shape[0]} tiles, more than {MAX_TILES}",
            path=path,
            fix="check that it is a tile file",
        )
    if len(shape) != 2 or shape[1] != 2:
        raise InputError(
            f"coords have shape {dataset.shape}, not (N, 2)", path=path, fix="make the file again"
        )
    coords = dataset[()].reshape(shape)
    if coords.dtype.kind == "f" and (coords == np.rint(coords)).all():
        coords = coords.astype(np.int64)
    check_coords(coords, path=path)
    return np.asarray(coords, dtype=np.int64)


class TileAttributes:
    """Attributes of a tile file, checked when they are read.

    Parameters
    ----------
    file
        Open file. Its own attributes are used where none of the datasets has the attribute.
    layout
        Name of the layout, for error messages.
    path
        File, for error messages.
    datasets
        Datasets whose attributes are used, the first one first.
    """

    def __init__(
        self,
        file: h5py.File,
        layout: str,
        path: str | Path,
        datasets: tuple[str, ...] = ("coords",),
    ) -> None:
        self._path, self._layout = path, layout
        self._places = [*(file[name].attrs for name in datasets), file.attrs]

    def get(self, name: str) -> Any:
        """Return the value as it is stored, or None if there is none."""
        return next((place[name] for place in self._places if name in place), None)

    def number(
        self, name: str, *, least: float, most: float, default: float | None = None
    ) -> float:
        """Return a finite number within bounds.

        The value may be a pair of nearly equal numbers, such as CLAM's downsample in x and y; then
        their mean is returned.

        Raises
        ------
        InputError
            If there is no such attribute and no default, or its value is out of bounds.
        """
        value = self.get(name)
        if value is None and default is not None:
            return default
        if value is None:
            raise InputError(
                f"has no attribute {name}, which a {self._layout.upper()} file has",
                path=self._path,
                fix="make the file again with that tool",
            )
        try:
            values = np.asarray(value, dtype=np.float64).ravel()
        except (TypeError, ValueError):
            values = np.array([math.nan])
        low, high = (values.min(), values.max()) if 1 <= values.size <= 2 else (math.nan, math.nan)
        if not (least <= low <= high <= most) or high > low * (1 + MPP_TOLERANCE):
            raise InputError(
                f"its attribute {name} is {str(value)[:60]}, not a number from {least:g} to"
                f" {most:g}",
                path=self._path,
                fix="make the file again with that tool",
            )
        return float(values.mean())

    def text(self, name: str) -> str:
        """Return a text of at most 200 characters, or an empty one."""
        value = self.get(name)
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return value[:200] if isinstance(value, str) else ""

    def size(self, width: str, height: str) -> tuple[int, int] | None:
        """Return two attributes as a width and a height, or None if either is missing."""
        if self.get(width) is None or self.get(height) is None:
            return None
        pixels = (int(self.number(name, least=1, most=1e8)) for name in (width, height))
        return next(pixels), next(pixels)
