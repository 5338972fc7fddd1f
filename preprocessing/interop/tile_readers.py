"""Tile files of other tools, told apart by what is in them: CLAM, TRIDENT and HEST beside our own.

None of them says how large a tile is: CLAM gives pixels of a level, TRIDENT pixels and nominal magnifications, HEST the
resolution of an image that may be another copy of the slide. The physical size therefore comes from the slide that the
tiles are read from: level-0 pixels times its µm per pixel, never from a magnification. Paths in their attributes are
not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.hdf5 import check_coords, open_hdf5, tile_spec
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.text import preview
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet

FOREIGN_LAYOUTS = ("clam", "trident", "hest")
MAX_TILES = 20_000_000
MAX_SIDE_PX = 100_000
SUFFIXES = (".h5", "_patches.h5")
TRIDENT_FOLDERS = "*x_*px_*px_overlap/patches"
_MPP_TOLERANCE = 0.02


class SlideGeometry(Protocol):
    """What an open slide says of itself; :class:`tcgn_mil.preprocessing.slides.readers.base.Slide` is one."""

    mpp: float
    size: tuple[int, int]
    level_downsamples: tuple[float, ...]


@dataclass(frozen=True)
class LaidTiles:
    """A foreign tile file, as far as it can be understood without its slide.

    Attributes
    ----------
    layout
        clam, trident or hest.
    coords
        (N, 2) int64, top-left corners in level-0 pixels.
    level0_px
        Side of a tile in level-0 pixels.
    tile_px, stride_px
        Side and step in the pixels that the tool hands to an encoder.
    name
        Slide the file says it is of; empty where it does not say.
    slide_size
        Width and height of level 0, and by how many pixels that may be off; None where it does not say.
    slide_mpp
        µm per pixel of level 0; None where it does not say.
    spec
        Our own geometry, where this package wrote the file.
    """

    layout: str
    coords: NDArray[np.int64]
    level0_px: float
    tile_px: int
    stride_px: int
    name: str = ""
    slide_size: tuple[tuple[int, int], float] | None = None
    slide_mpp: float | None = None
    spec: TileSpec | None = None


def tile_layout(path: str | Path) -> str:
    """Whose file it is: ``tcgn-mil``, ``clam``, ``trident`` or ``hest``.

    Raises
    ------
    InputError
        If it is missing, damaged, or of none of these.
    """
    with open_hdf5(path, kind="tile") as file:
        return _layout(file, path)


def read_any_tiles(
    path: str | Path,
    slide: SlideGeometry | None = None,
    *,
    slide_id: str = "",
    patient_id: str = "",
    file_name: str = "",
) -> TileSet:
    """Read a tile file of any known layout.

    Parameters
    ----------
    slide
        The slide its tiles are read from; only our own files can do without.
    slide_id, patient_id
        Of foreign tiles; by default the file's name.
    file_name
        The slide file's name without suffix, by which other tools call the slide.

    Returns
    -------
    TileSet
        Of foreign tiles without quality; their tissue fraction is NaN, as it is not known.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind, or laid on another slide; or no slide is given for a foreign
        one.
    """
    layout = tile_layout(path)
    if layout == "tcgn-mil":
        return read_tiles(path)
    if slide is None:
        raise InputError(
            f"is a {layout.upper()} file, which does not say how large its tiles are",
            path=path,
            fix="give the slides too (--slides): the size comes from their µm per pixel",
        )
    laid = read_layout(path)
    slide_id = slide_id or Path(path).stem.removesuffix("_patches")
    if laid.layout != "hest" and laid.name not in ("", slide_id, file_name):
        raise InputError(
            f"says it is of slide {laid.name!r}, not {slide_id!r}",
            path=path,
            fix="give each slide its own tile file",
        )
    return _on_slide(laid, slide, path, slide_id, patient_id)


def find_tile_file(folder: str | Path, names: Sequence[str]) -> Path:
    """The tile file of a slide that goes by `names` (its id, its file's name), wherever the known tools put it.

    Looked for as ``{name}.h5`` and ``{name}_patches.h5`` in the folder, in ``patches`` and in TRIDENT's
    ``{mag}x_{px}px_{overlap}px_overlap/patches`` below it.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    folder = Path(folder)
    names = list(dict.fromkeys(safe_file_name(name, what="slide id") for name in names if name))
    places = [folder, folder / "patches", *sorted(folder.glob(TRIDENT_FOLDERS))]
    known = [place / f"{name}{suffix}" for place in places for name in names for suffix in SUFFIXES]
    found = [path for path in known if path.is_file()]
    if not found:
        raise InputError(
            "no such tile file",
            path=folder / f"{names[0]}.h5",
            fix="run tcgn-mil tile first, or give the folder that holds the tile files",
        )
    if len(found) > 1:
        shown = preview([str(path.relative_to(folder)) for path in found])
        raise InputError(
            f"slide {names[0]} has {len(found)} tile files: {shown}",
            path=folder,
            fix="give the folder of one set of tiles, or remove the others",
        )
    return found[0]


def read_layout(path: str | Path) -> LaidTiles:
    """Read a CLAM, TRIDENT or HEST file; errors as :func:`read_any_tiles`."""
    with open_hdf5(path, kind="tile") as file:
        layout = _layout(file, path)
        reader = {"clam": _clam, "trident": _trident, "hest": _hest}[layout]
        laid = reader(_coords(file, path), _Attributes(file, layout, path))
        return replace(laid, spec=tile_spec(file, kind="tile")) if "spec" in file.attrs else laid


def _layout(file: h5py.File, path: str | Path) -> str:
    if "tissue_fraction" in file and "spec" in file.attrs:
        return "tcgn-mil"
    if isinstance(file.get("coords", getlink=True), h5py.ExternalLink) or not isinstance(
        file.get("coords"), h5py.Dataset
    ):
        raise InputError("is no tile file: it has no coords", path=path, fix="check the path")
    attributes = file["coords"].attrs
    if "patch_size_level0" in attributes:
        return "trident"
    if "patch_level" in attributes:
        return "clam"
    if "img" in file:
        return "hest"
    raise InputError(
        "holds coords, but nothing that says how large a tile is",
        path=path,
        fix="give a tile file of tcgn-mil, CLAM (attribute patch_level), TRIDENT (patch_size_level0) or HEST (img)",
    )


def _coords(file: h5py.File, path: str | Path) -> NDArray[np.int64]:
    """(N, 2); empty slides are (0, 2) or (0,). Data that lies in another file is not read."""
    dataset = file["coords"]
    if dataset.external or dataset.is_virtual:
        raise InputError(
            "its coords lie in another file", path=path, fix="give a file that holds its own data"
        )
    if dataset.shape and not dataset.shape[0]:
        return np.empty((0, 2), dtype=np.int64)
    if len(dataset.shape) == 2 and dataset.shape[0] > MAX_TILES:
        raise InputError(
            f"has {dataset.shape[0]} tiles, over {MAX_TILES}",
            path=path,
            fix="check that it is a tile file",
        )
    if len(dataset.shape) != 2 or dataset.shape[1] != 2:
        raise InputError(
            f"coords have shape {dataset.shape}, not (N, 2)", path=path, fix="make the file again"
        )
    coords = dataset[:]
    check_coords(coords, path=path)
    return coords.astype(np.int64)


class _Attributes:
    """The attributes of a foreign file that are read, checked; no other is looked at."""

    def __init__(self, file: h5py.File, layout: str, path: str | Path) -> None:
        self._path, self._layout = path, layout
        names = ("img", "coords") if layout == "hest" else ("coords",)
        self._places = [*(file[name].attrs for name in names), file.attrs]

    def get(self, name: str) -> Any:
        """The value, or None."""
        return next((place[name] for place in self._places if name in place), None)

    def number(
        self, name: str, *, least: float, most: float, default: float | None = None
    ) -> float:
        """A finite number within bounds; of several equal ones (CLAM's downsample of x and y) their mean."""
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
        if not (least <= low <= high <= most) or high > low * (1 + _MPP_TOLERANCE):
            raise InputError(
                f"its attribute {name} is {str(value)[:60]}, not a number from {least:g} to {most:g}",
                path=self._path,
                fix="make the file again with that tool",
            )
        return float(values.mean())

    def text(self, name: str) -> str:
        """A short text, or nothing."""
        value = self.get(name)
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return value[:200] if isinstance(value, str) else ""

    def size(self, width: str, height: str) -> tuple[int, int] | None:
        """Two attributes as a size, None where either is missing."""
        if self.get(width) is None or self.get(height) is None:
            return None
        return int(self.number(width, least=1, most=1e8)), int(
            self.number(height, least=1, most=1e8)
        )


def _clam(coords: NDArray[np.int64], attributes: _Attributes) -> LaidTiles:
    """``patch_size`` is in pixels of ``patch_level``, which is ``downsample`` times coarser than level 0."""
    side = attributes.number("patch_size", least=1, most=MAX_SIDE_PX)
    downsample = attributes.number("downsample", least=0.99, most=1024)
    level_size = np.asarray(
        attributes.get("level_dim") if attributes.get("level_dim") is not None else []
    )
    known = level_size.shape == (2,) and np.issubdtype(level_size.dtype, np.number)
    width, height = (
        (round(float(pixels) * downsample) for pixels in level_size) if known else (0, 0)
    )
    return LaidTiles(
        "clam",
        coords,
        side * downsample,
        round(side),
        round(side),
        attributes.text("name"),
        ((width, height), 2 * downsample) if known else None,
    )


def _trident(coords: NDArray[np.int64], attributes: _Attributes) -> LaidTiles:
    """The magnifications are names; sizes are in pixels of level 0 and of the patch."""
    side = attributes.number("patch_size", least=1, most=MAX_SIDE_PX)
    overlap = attributes.number("overlap", least=0, most=side - 1, default=0.0)
    size = attributes.size("level0_width", "level0_height")
    return LaidTiles(
        "trident",
        coords,
        attributes.number("patch_size_level0", least=1, most=MAX_SIDE_PX),
        round(side),
        round(side - overlap),
        attributes.text("name"),
        None if size is None else (size, 0.0),
    )


def _hest(coords: NDArray[np.int64], attributes: _Attributes) -> LaidTiles:
    """Spots or tiles with their pixels, which are read from the slide all the same: all tiles are read alike."""
    side = attributes.number("patch_size_target", least=1, most=MAX_SIDE_PX)
    mpp = (
        None
        if attributes.get("pixel_size") is None
        else attributes.number("pixel_size", least=0.01, most=100)
    )
    return LaidTiles(
        "hest",
        coords,
        attributes.number("patch_size_src", least=1, most=MAX_SIDE_PX),
        round(side),
        round(side),
        attributes.text("name"),
        slide_mpp=mpp,
    )


def _on_slide(
    laid: LaidTiles, slide: SlideGeometry, path: str | Path, slide_id: str, patient_id: str
) -> TileSet:
    _check_slide(laid, slide, path)
    own = laid.spec is not None and abs(laid.spec.patch.um / slide.mpp - laid.level0_px) <= 1
    try:
        if laid.spec is not None and own:  # ours, rounded to whole pixels for the other tool
            patch, stride = laid.spec.patch, laid.spec.stride_px
        else:
            patch, stride = (
                PatchSize(laid.tile_px, laid.level0_px * slide.mpp / laid.tile_px),
                laid.stride_px,
            )
        spec = TileSpec.for_slide(
            patch, slide_mpp=slide.mpp, level_downsamples=slide.level_downsamples, stride_px=stride
        )
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from error
    if not own:
        spec = replace(
            spec, level0_px=laid.level0_px, level0_stride_px=stride * laid.level0_px / laid.tile_px
        )
    unknown = np.full(len(laid.coords), np.nan, dtype=np.float32)
    width, height = slide.size
    return TileSet(slide_id, laid.coords, unknown, spec, (width, height), patient_id)


def _check_slide(laid: LaidTiles, slide: SlideGeometry, path: str | Path) -> None:
    """Refuse tiles of another slide: by its size or resolution where the file says, and by where its tiles lie."""
    fix = "give the slide that these tiles were laid on"
    if laid.slide_size is not None:
        size, tolerance = laid.slide_size
        if any(abs(said - there) > tolerance for said, there in zip(size, slide.size, strict=True)):
            raise InputError(
                f"was laid on a slide of {size[0]} x {size[1]} px, this one has {slide.size[0]} x {slide.size[1]}",
                path=path,
                fix=fix,
            )
    if laid.slide_mpp is not None and not math.isclose(
        laid.slide_mpp, slide.mpp, rel_tol=_MPP_TOLERANCE
    ):
        raise InputError(
            f"was laid on a slide of {laid.slide_mpp:.4g} µm/px, this one has {slide.mpp:.4g}",
            path=path,
            fix=fix,
        )
    outside = ((laid.coords + laid.level0_px <= 0) | (laid.coords >= np.asarray(slide.size))).any(
        axis=1
    )
    if outside.any():
        x, y = laid.coords[np.argmax(outside)].tolist()
        raise InputError(
            f"{int(outside.sum())} of its tiles lie off the slide of {slide.size[0]} x {slide.size[1]} px,"
            f" the first at {x}, {y}",
            path=path,
            fix=fix,
        )
