"""Writing tiles in the layouts of CLAM and TRIDENT, to the letter of their own files.

Both hold whole level-0 pixels, to which our sizes in µm are rounded; the exact geometry stands beside theirs in root
attributes (``spec``), which they do not look at, so that reading our exports back gives the same tiles.

The tiles of a cohort in a folder of any layout: found for a slide, and written in another layout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.io.geojson import write_geojson
from tcgn_mil.io.hdf5 import create_hdf5, write_stain
from tcgn_mil.io.spot_files import create_patch_file
from tcgn_mil.preprocessing.interop.tile_readers import read_any_tiles
from tcgn_mil.preprocessing.interop.tile_source import read_slide_tiles
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.preprocessing.tiles.pixels import iter_tiles
from tcgn_mil.preprocessing.tiles.tiling import CohortTiles
from tcgn_mil.types.tile_geometry import TileSpec
from tcgn_mil.types.tiles import TileSet

MAGNIFICATIONS = (1.25, 2.5, 5, 10, 20, 40, 60, 80)
UM_AT_1X = 10.0  # a scanner's 10x is 1 µm per pixel


def nominal_magnification(mpp: float) -> float:
    """The usual step nearest to 10 / mpp, by ratio; a name for a resolution, nothing is measured by it.

    0.5 µm/px is 20x, and so is 0.46; 0.1945 is 60x.
    """
    return min(MAGNIFICATIONS, key=lambda step: abs(math.log(step * mpp / UM_AT_1X)))


def write_clam(path: str | Path, tiles: TileSet) -> None:
    """Write ``patches/{slide}.h5`` as CLAM does, atomically.

    Always of ``patch_level`` 0, the one level of which a tile file knows the size exactly.
    """
    side = max(1, round(tiles.spec.level0_px))
    size = np.array(tiles.slide_size, dtype=np.int64)
    with create_hdf5(path) as file:
        coords = _coords(file, tiles)
        coords.attrs["patch_size"] = np.int64(side)
        coords.attrs["patch_level"] = np.int64(0)
        coords.attrs["downsample"] = np.array([1.0, 1.0])
        coords.attrs["downsampled_level_dim"] = size
        coords.attrs["level_dim"] = size
        coords.attrs["name"] = tiles.slide_id
        coords.attrs["save_path"] = Path(path).parent.name


def write_trident(path: str | Path, tiles: TileSet) -> None:
    """Write ``{mag}x_{px}px_{overlap}px_overlap/patches/{slide}_patches.h5`` as TRIDENT does, atomically."""
    spec = tiles.spec
    with create_hdf5(path) as file:
        coords = _coords(file, tiles)
        coords.attrs["patch_size"] = np.int64(spec.tile_px)
        coords.attrs["patch_size_level0"] = np.int64(max(1, round(spec.level0_px)))
        coords.attrs["level0_magnification"] = _whole(nominal_magnification(spec.slide_mpp))
        coords.attrs["target_magnification"] = _whole(target_magnification(spec))
        coords.attrs["overlap"] = np.int64(overlap_px(spec))
        coords.attrs["name"] = tiles.slide_id
        coords.attrs["savetodir"] = trident_folder(spec)
        coords.attrs["level0_width"], coords.attrs["level0_height"] = (
            np.int64(side) for side in tiles.slide_size
        )


def target_magnification(spec: TileSpec) -> float:
    """10 / mpp to the nearest whole number: 14 for 0.69 µm/px, 20 for 0.5."""
    return max(1, round(UM_AT_1X / spec.mpp))


def overlap_px(spec: TileSpec) -> int:
    """By how many of its pixels a tile overlaps the next."""
    return max(0, spec.tile_px - spec.stride_px)


def trident_folder(spec: TileSpec) -> str:
    """Name of TRIDENT's folder for these tiles."""
    return f"{target_magnification(spec):g}x_{spec.tile_px}px_{overlap_px(spec)}px_overlap"


def _coords(file: h5py.File, tiles: TileSet) -> h5py.Dataset:
    file.attrs["spec"] = json.dumps(tiles.spec.as_dict())
    return file.create_dataset("coords", data=tiles.coords.astype(np.int64))


def _whole(magnification: float) -> np.int64 | np.float64:
    return (
        np.int64(magnification)
        if magnification == int(magnification)
        else np.float64(magnification)
    )


EXPORTS = ("clam", "trident", "hest", "geojson")
STAGE = "export-tiles"
_BATCH = 64


def export_cohort(
    folder: str | Path,
    layout: str,
    out_dir: str | Path,
    entries: Sequence[SlideEntry] | None = None,
) -> CohortTiles:
    """Write the tiles of each slide in another layout; a slide that fails costs a row of failures.csv.

    Parameters
    ----------
    folder
        Of tile files, ours or, with the slides, of any known layout.
    layout
        clam, trident, hest or geojson.
    entries
        The slides; needed for hest, and for files that are not ours. Without, every slide in the folder.

    Raises
    ------
    InputError
        If the layout is unknown, slides are needed and not given, or the folder holds no tile file.
    """
    if layout not in EXPORTS:
        raise InputError(f"unknown tile layout {layout!r}", fix=f"give one of {', '.join(EXPORTS)}")
    if layout == "hest" and entries is None:
        raise InputError(
            "HEST files hold pixels, which tile files do not", fix="give the slides too (--slides)"
        )
    if not Path(folder).is_dir():
        raise InputError("no such folder of tile files", path=folder, fix="run tcgn-mil tile first")
    slides: list[tuple[str, SlideEntry | None]] = (
        [(path.stem, None) for path in _own_tile_files(folder)]
        if entries is None
        else [(each.slide_id, each) for each in entries]
    )
    done: list[str] = []
    failures: list[Failure] = []
    for slide_id, entry in tqdm(slides, desc="exporting", unit="slide"):
        try:
            if entry is None:
                tiles = read_any_tiles(Path(folder) / f"{slide_id}.h5")
            else:
                tiles = read_slide_tiles(folder, entry)
            _export(tiles, layout, out_dir, entry)
        except InputError as error:
            where = "" if error.path is None else f"{error.path}: "
            failures.append(Failure(slide_id, STAGE, where + error.reason, error.fix or ""))
        else:
            done.append(slide_id)
    write_failures(out_dir, failures)
    return CohortTiles(done, failures)


def _export(tiles: TileSet, layout: str, out_dir: str | Path, entry: SlideEntry | None) -> None:
    name, out = safe_file_name(tiles.slide_id, what="slide id"), Path(out_dir)
    if layout == "clam":
        write_clam(out / "patches" / f"{name}.h5", tiles)
    elif layout == "trident":
        write_trident(out / trident_folder(tiles.spec) / "patches" / f"{name}_patches.h5", tiles)
    elif layout == "geojson":
        write_geojson(out / f"{name}.geojson", tiles)
    else:
        assert entry is not None
        write_hest(out / "patches" / f"{name}.h5", tiles, entry)


def write_hest(path: str | Path, tiles: TileSet, entry: SlideEntry) -> None:
    """Write tiles with their pixels as HEST does, batch by batch; a tile's barcode is its place, ``{x}x{y}``.

    The pixels are those that would be encoded: with a stain normalisation, that is applied, and recorded.
    """
    if not len(tiles):
        raise InputError(f"slide {tiles.slide_id} has no tile to cut", fix="leave the slide out")
    barcodes = [f"{x}x{y}" for x, y in tiles.coords.tolist()]
    spec = tiles.spec
    with (
        entry.open() as slide,
        create_patch_file(
            path, barcodes, spec.patch, section=tiles.slide_id, pixel_size=slide.mpp
        ) as file,
    ):
        file.attrs["spec"] = json.dumps(spec.as_dict())
        write_stain(file, tiles.stain)
        done = 0
        for pixels, coords in iter_tiles(slide, tiles.coords, spec, _BATCH, stain=tiles.stain):
            file["img"][done : done + len(coords)] = pixels
            file["coords"][done : done + len(coords)] = coords
            done += len(coords)


def _own_tile_files(folder: str | Path) -> list[Path]:
    """List the tile files in the folder itself, which only this package lays out so."""
    paths = [path for path in sorted(Path(folder).glob("*.h5")) if not path.name.startswith(".")]
    if not paths:
        raise InputError(
            "holds no tile file (*.h5)",
            path=folder,
            fix="give the folder that `tcgn-mil tile` wrote; for folders of other tools give the"
            " slides too (--slides)",
        )
    return paths
