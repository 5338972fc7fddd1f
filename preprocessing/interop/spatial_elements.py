"""Read what lies on a slide from the files of this package: spots, tiles, maps and predictions.

Everything is in pixels of level 0 (of the full-resolution image for spots), so that files of one
slide fit together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.image_file import open_picture
from tcgn_mil.io.anndata_file import open_anndata, stored_meta
from tcgn_mil.io.failures import LeftOut
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.io.spot_files import PATCHES_SUFFIX, read_spots
from tcgn_mil.io.tile_files import read_tiles
from tcgn_mil.types.tiles import TileSet

TILES, SPOTS, MAP, PREDICTIONS = "tiles", "spots", "map", "predictions"
MAP_KIND = "slide map"
_AGAIN = "make the file again by the command that wrote it"
_NO_PLACES = "holds nothing that has a place on a slide"
# Folders of runs whose files have a place on a slide: of predict and of spot-cv.
_INSIDE = ("maps", "fold_*")
_NAME = re.compile(r"[^\w.-]")  # what SpatialData does not allow in the name of a column


@dataclass(frozen=True)
class Picture:
    """A small picture of the whole slide.

    Attributes
    ----------
    pixels
        (H, W, 3) uint8 RGB.
    size
        Width and height of level 0 in pixels.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class PlacedTable:
    """Rows of values, each with its place on a slide.

    Attributes
    ----------
    slide_id
        Name of the slide or section.
    name
        Kind of the rows: ``spots``, ``tiles``, ``map`` or ``predictions``.
    centres
        (N, 2) x and y of the centres in level-0 pixels.
    side_px
        Side of the square around a centre in level-0 pixels; None if the file does not say.
    table
        N rows with their values.
    mpp
        µm per pixel of level 0; None if the file does not say.
    picture
        Picture of the slide, if the file has one or one lies beside it.
    """

    slide_id: str
    name: str
    centres: NDArray[np.float64]
    side_px: float | None
    table: anndata.AnnData
    mpp: float | None = None
    picture: Picture | None = None


def find_files(source: Path) -> tuple[list[Path], list[LeftOut]]:
    """Return the files of a folder that may hold rows with a place, and those left out.

    Parameters
    ----------
    source
        A file; or a folder of `tcgn-mil tile`, `spots`, `predict` or `spot-cv`.

    Raises
    ------
    InputError
        If there is no such file.
    """
    if source.is_file():
        return [source], []
    if not source.is_dir():
        raise InputError("no such file or folder", path=source, fix="check the path")
    inside = [folder for name in _INSIDE for folder in sorted(source.glob(name)) if folder.is_dir()]
    candidates = [path for folder in (source, *inside) for path in _data_files(folder)]
    found = [path for path in candidates if path.suffix == ".h5" or _has_places(path)]
    if not found:
        raise InputError(
            "holds no spots, tiles or maps of slides",
            path=source,
            fix="give a folder of tcgn-mil spots or tile, or a run of predict with maps or spot-cv",
        )
    left_out = [LeftOut(path.name, _NO_PLACES) for path in candidates if path not in found]
    return found, left_out


def read_placed(path: Path) -> PlacedTable:
    """Read the rows of a file and their places.

    Raises
    ------
    InputError
        If the file is damaged, or holds nothing that has a place on a slide.
    """
    if path.suffix == ".h5":
        return _of_tiles(read_tiles(path), path.with_name(f"{path.stem}_thumbnail.jpg"))
    table = open_anndata(path, what="AnnData file", missing_fix="check the path", broken_fix=_AGAIN)
    meta = stored_meta(table)
    if "spatial" not in table.obsm:
        raise InputError(_NO_PLACES, path=path, fix="leave this file out")
    centres = np.asarray(table.obsm["spatial"], dtype=np.float64)
    if meta.get("kind") == MAP_KIND:
        slide_id = str(meta["slide_id"])
        picture = _stored_picture(table, slide_id, meta)
        return PlacedTable(slide_id, MAP, centres, float(meta["level0_px"]), table, picture=picture)
    if "patches" in meta:
        spots = read_spots(path)
        mpp = float(table.uns["mpp"]) if "mpp" in table.uns else None
        side = None if mpp is None else spots.patch.um / mpp
        return PlacedTable(spots.section, SPOTS, centres, side, spots.adata, mpp)
    sections = list(table.obs["section"].unique()) if "section" in table.obs else []
    if len(sections) != 1:
        raise InputError(
            "does not name the section of its rows", path=path, fix="leave this file out"
        )
    return PlacedTable(str(sections[0]), PREDICTIONS, centres, None, table)


def plain_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose column names hold letters, digits, ``_``, ``.`` and ``-`` only.

    SpatialData does not write other names, such as those of gene sets with spaces.

    Raises
    ------
    InputError
        If two columns get the same name.

    Examples
    --------
    >>> plain_columns(pd.DataFrame({"T cells": [1]})).columns.tolist()
    ['T_cells']
    """
    names = [_NAME.sub("_", str(name)) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"two columns would be named {twice} in SpatialData", fix="rename one of the gene sets"
        )
    return frame.set_axis(names, axis=1)


def _data_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.endswith(PATCHES_SUFFIX):
            continue
        if path.suffix in (".h5", ".h5ad") and path.is_file():
            yield path


def _has_places(path: Path) -> bool:
    """Return whether an .h5ad has positions; damaged ones are kept, so that they are named."""
    try:
        with open_hdf5(path, kind="result") as file:
            return "obsm/spatial" in file
    except InputError:
        return True


def _of_tiles(tiles: TileSet, thumbnail: Path) -> PlacedTable:
    obs: dict[str, Any] = {"tissue_fraction": tiles.tissue_fraction}
    if tiles.quality is not None:
        obs |= {name: getattr(tiles.quality, name) for name in ("focus", "blur", "pen", "fold")}
    names = [f"x{x}_y{y}" for x, y in tiles.coords.tolist()]
    table = anndata.AnnData(
        np.zeros((len(tiles), 0), dtype=np.float32), obs=pd.DataFrame(obs, index=names)
    )
    side, picture = tiles.spec.level0_px, None
    if thumbnail.is_file():
        with open_picture(thumbnail) as image:
            picture = Picture(np.asarray(image.convert("RGB")), tiles.slide_size)
    centres = tiles.coords.astype(np.float64) + side / 2
    mpp = tiles.spec.slide_mpp
    return PlacedTable(tiles.slide_id, TILES, centres, side, table, mpp, picture)


def _stored_picture(table: anndata.AnnData, slide_id: str, meta: dict[str, Any]) -> Picture | None:
    stored = table.uns.get("spatial", {}).get(slide_id, {})
    if stored.get("metadata", {}).get("image") != "thumbnail":
        return None
    width, height = (int(side) for side in meta["slide_size"])
    return Picture(np.asarray(stored["images"]["hires"], dtype=np.uint8), (width, height))
