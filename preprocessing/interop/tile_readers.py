"""Read tile files of this package and of other tools.

The layouts are told apart by what a file holds. None of the other tools says how large a tile is in
micrometres: CLAM gives pixels of a pyramid level, TRIDENT pixels and nominal magnifications, and
HEST the resolution of an image that may be another copy of the slide. So the physical size is
computed from the slide: level-0 pixels times the slide's micrometres per pixel. It is never taken
from a magnification. Paths in the attributes of a file are not used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.folder_listing import remembered
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.hdf5 import open_hdf5, tile_spec
from tcgn_mil.io.tile_files import tiles_in
from tcgn_mil.preprocessing.interop.readers import TILE_LAYOUTS, LaidTiles
from tcgn_mil.preprocessing.interop.readers.base import MPP_TOLERANCE, has_coords
from tcgn_mil.preprocessing.slides.readers import without_slide_suffix
from tcgn_mil.text import composed, preview
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import TileSet

OWN_LAYOUT = "tcgn-mil"
FILE_ENDINGS = (".h5", "_patches.h5")
TRIDENT_FOLDERS = "*x_*px_*px_overlap"
_ANOTHER_SLIDE_FIX = "give the slide that these tiles were laid on"


class SlideGeometry(Protocol):
    """Size and resolution of a slide; an open :class:`~..slides.readers.base.Slide` has them.

    A slide may also have `file_mpp` and `bounds_corner`.
    """

    mpp: float
    size: tuple[int, int]
    level_downsamples: tuple[float, ...]


@reads("a tile file", fix="make the file again")
def tile_layout(path: str | Path) -> str:
    """Return the layout of a tile file: ``tcgn-mil`` or a key of :data:`~.readers.TILE_LAYOUTS`.

    Raises
    ------
    InputError
        If the file is missing, damaged or of an unknown layout.
    """
    with open_hdf5(path, kind="tile") as file:
        return _layout(file, path)


@reads("a tile file", fix="tile the slide again")
def read_own_tiles(path: str | Path) -> TileSet | None:
    """Read a tile file of this package, by opening it once; return None for that of another tool.

    Raises
    ------
    InputError
        If the file is missing, damaged or of an unknown layout.
    """
    with open_hdf5(path, kind="tile") as file:
        return tiles_in(file, path) if _layout(file, path) == OWN_LAYOUT else None


@reads("a tile file", fix="make the file again")
def read_any_tiles(
    path: str | Path,
    slide: SlideGeometry | None = None,
    *,
    slide_id: str = "",
    patient_id: str = "",
    file_name: str = "",
) -> TileSet:
    """Read a tile file of any layout.

    Parameters
    ----------
    path
        Tile file.
    slide
        Slide that the tiles are read from. Files of this package can be read without.
    slide_id, patient_id
        Ids to give to tiles of another tool's file. By default the slide id is the file's name.
    file_name
        Name of the slide file without suffix, by which other tools call the slide.

    Returns
    -------
    TileSet
        Tiles of another tool's file have no quality, and their tissue fraction is NaN because it is
        not known.

    Raises
    ------
    InputError
        If the file is missing, damaged, of an unknown layout or of another slide, or if a file of
        another tool is read without a slide.
    """
    own = read_own_tiles(path)
    if own is not None:
        return own
    if slide is None:
        raise InputError(
            f"is a {tile_layout(path).upper()} file, which does not say how large its tiles are",
            path=path,
            fix="give the slides too (--slides), because the size is computed from their µm per"
            " pixel",
        )
    laid = read_layout(path)
    slide_id = slide_id or Path(path).stem.removesuffix("_patches")
    names = {"", *map(composed, (slide_id, file_name))}
    if laid.name_is_slide and composed(without_slide_suffix(laid.name)) not in names:
        raise InputError(
            f"says it is of slide {laid.name!r}, not {slide_id!r}",
            path=path,
            fix="give each slide its own tile file",
        )
    mpp, file_mpp = _resolution(laid, slide)
    _check_slide(laid, slide, mpp, path)
    try:
        spec = _spec_on_slide(laid, slide, mpp)
    except InputError as error:
        raise InputError(error.reason, path=path, fix=error.fix) from error
    x, y = getattr(slide, "bounds_corner", (0, 0))
    spec = replace(spec, file_mpp=file_mpp, bounds_x=x, bounds_y=y)
    unknown = np.full(len(laid.coords), np.nan, dtype=np.float32)
    width, height = slide.size
    return TileSet(slide_id, laid.coords, unknown, spec, (width, height), patient_id)


def find_tile_file(folder: str | Path, names: Sequence[str]) -> Path:
    """Find the tile file of a slide in a folder that any of the tools wrote.

    The files ``{name}.h5`` and ``{name}_patches.h5`` are looked for in the folder, in its folder
    ``patches``, and in TRIDENT's ``{mag}x_{px}px_{overlap}px_overlap/patches``.

    Parameters
    ----------
    folder
        Folder of tile files.
    names
        Names of the slide, such as its id and the name of its file.

    Raises
    ------
    InputError
        If there is no such file, or more than one.
    """
    folder = Path(folder)
    names = list(dict.fromkeys(safe_file_name(name, what="slide id") for name in names if name))
    places = [folder, folder / "patches", *(each / "patches" for each in _of_trident(folder))]
    paths = [
        path
        for place in places
        for name in names
        for ending in FILE_ENDINGS
        if (path := place / f"{name}{ending}").is_file()
    ]
    if not paths:
        raise InputError(
            "no such tile file",
            path=folder / f"{names[0]}.h5",
            fix="run `tcgn-mil tile` first, or give the folder that holds the tile files",
        )
    if len(paths) > 1:
        shown = preview([str(path.relative_to(folder)) for path in paths])
        raise InputError(
            f"slide {names[0]} has {len(paths)} tile files: {shown}",
            path=folder,
            fix="give the folder of one set of tiles, or remove the others",
        )
    return paths[0]


@remembered
def _of_trident(folder: Path) -> list[Path]:
    return sorted(folder.glob(TRIDENT_FOLDERS))


@reads("a tile file", fix="make the file again")
def read_layout(path: str | Path) -> LaidTiles:
    """Read another tool's tile file as far as it can be understood without the slide.

    Raises
    ------
    InputError
        If the file is missing, damaged or of an unknown layout.
    """
    with open_hdf5(path, kind="tile") as file:
        laid = TILE_LAYOUTS[_layout(file, path)].read(file, path)
        return replace(laid, spec=tile_spec(file, kind="tile")) if "spec" in file.attrs else laid


def _layout(file: h5py.File, path: str | Path) -> str:
    if has_coords(file) and "tissue_fraction" in file and "spec" in file.attrs:
        return OWN_LAYOUT
    for name, layout in reversed(TILE_LAYOUTS.items()):
        if layout.recognises(file):
            return name
    if not has_coords(file):
        raise InputError("is not a tile file: it has no coords", path=path, fix="check the path")
    raise InputError(
        "holds coords, but nothing that says how large a tile is",
        path=path,
        fix="give a tile file of tcgn-mil, CLAM (attribute patch_level), TRIDENT"
        " (patch_size_level0) or HEST (img)",
    )


def _resolution(laid: LaidTiles, slide: SlideGeometry) -> tuple[float, float | None]:
    """Return the µm per pixel of a slide and, if it was overridden, that of its file.

    Tiles that this package exported record an override, and the slide may be opened without it.
    """
    spec = laid.spec
    if (
        spec is not None
        and spec.file_mpp is not None
        and math.isclose(spec.file_mpp, slide.mpp, rel_tol=MPP_TOLERANCE)
    ):
        return spec.slide_mpp, spec.file_mpp
    return slide.mpp, getattr(slide, "file_mpp", None)


def _spec_on_slide(laid: LaidTiles, slide: SlideGeometry, mpp: float) -> TileSpec:
    """Give tiles their physical size on a slide.

    Files that this package exported are rounded to whole pixels for the other tool, and carry the
    exact geometry beside it. It is used if it agrees with the slide.
    """
    if laid.spec is not None and abs(laid.spec.patch.um / mpp - laid.level0_px) <= 1:
        return TileSpec.for_slide(
            laid.spec.patch,
            slide_mpp=mpp,
            level_downsamples=slide.level_downsamples,
            stride_px=laid.spec.stride_px,
        )
    spec = TileSpec.for_slide(
        PatchSize(laid.tile_px, laid.level0_px * mpp / laid.tile_px),
        slide_mpp=mpp,
        level_downsamples=slide.level_downsamples,
        stride_px=laid.stride_px,
    )
    # `for_slide` computes these from micrometres; the file's own pixels are exact.
    return replace(
        spec,
        level0_px=laid.level0_px,
        level0_stride_px=laid.stride_px * laid.level0_px / laid.tile_px,
    )


def _check_slide(laid: LaidTiles, slide: SlideGeometry, mpp: float, path: str | Path) -> None:
    """Refuse tiles of another slide.

    The size and the resolution are compared if the file has them. In any case no tile may lie
    outside the slide.
    """
    if laid.slide_size is not None:
        size, tolerance = laid.slide_size
        if any(abs(said - there) > tolerance for said, there in zip(size, slide.size, strict=True)):
            raise InputError(
                f"was laid on a slide of {size[0]} x {size[1]} px, this one has"
                f" {slide.size[0]} x {slide.size[1]}",
                path=path,
                fix=_ANOTHER_SLIDE_FIX,
            )
    if laid.slide_mpp is not None and not math.isclose(laid.slide_mpp, mpp, rel_tol=MPP_TOLERANCE):
        raise InputError(
            f"was laid on a slide of {laid.slide_mpp:.4g} µm/px, this one has {mpp:.4g}",
            path=path,
            fix=_ANOTHER_SLIDE_FIX,
        )
    before, beyond = laid.coords + laid.level0_px <= 0, laid.coords >= np.asarray(slide.size)
    outside = (before | beyond).any(axis=1)
    if outside.any():
        x, y = laid.coords[np.argmax(outside)].tolist()
        raise InputError(
            f"{int(outside.sum())} of its tiles lie outside the slide of {slide.size[0]} x"
            f" {slide.size[1]} px, the first at {x}, {y}",
            path=path,
            fix=_ANOTHER_SLIDE_FIX,
        )
