"""Writing tiles in the layouts of CLAM and TRIDENT, to the letter of their own files.

Both hold whole level-0 pixels, to which our sizes in µm are rounded; the exact geometry stands beside theirs in root
attributes (``spec``), which they do not look at, so that reading our exports back gives the same tiles.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import numpy as np

from tcgn_mil.io.hdf5 import create_hdf5
from tcgn_mil.types.tiles import TileSet, TileSpec

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
