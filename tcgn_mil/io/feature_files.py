"""features/<slide>.h5: one encoder's features of a slide's tiles.

Read by slices, so that neither a slide's pixels nor a cohort's features need fit in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import (
    check_coords,
    create_hdf5,
    json_attr,
    open_hdf5,
    read_stain,
    tile_spec,
    write_stain,
)
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
from tcgn_mil.types.tiles import Stain

LEVEL0, SCALED, UNKNOWN = POSITIONS = ("level-0 pixels", "tile pixels", "unknown")
_ROWS_A_BLOCK = 4096


@dataclass(frozen=True)
class FeatureInfo:
    """What a feature file says of itself.

    Attributes
    ----------
    slide_id, patient_id
        Slide the tiles belong to, and its patient.
    n_tiles, width
        N and D.
    encoder
        Name and hash of the encoder, for example ``tcgn_tiny-1a2b...``; models refuse features of another one.
    spec
        Geometry of the tiles.
    stain
        Normalisation of their colours before they were encoded; None for pixels as they are.
    positions
        What ``coords`` are in: `LEVEL0`; `SCALED`, pixels of ``spec.mpp`` µm, where the slide's own resolution is not
        known; or `UNKNOWN`, where they are -1. Only `LEVEL0` can be laid on the slide.
    tiling
        Rules for tissue and quality that the tiles were kept by, :attr:`~tcgn_mil.types.tiles.TileSet.settings`.
    """

    slide_id: str
    patient_id: str
    n_tiles: int
    width: int
    encoder: str
    spec: TileSpec
    stain: Stain | None = None
    positions: str = LEVEL0
    tiling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def patch(self) -> PatchSize:
        """Physical field of a tile."""
        return self.spec.patch


def write_features(
    path: str | Path,
    features: NDArray[np.floating],
    coords: NDArray[np.int64],
    *,
    slide_id: str,
    patient_id: str,
    encoder: str,
    spec: TileSpec,
    colour: NDArray[np.floating] | None = None,
    stain: Stain | None = None,
    tiling: Mapping[str, Any] | None = None,
) -> None:
    """Write features atomically.

    Layout: ``features`` (N, D) float16 or float32, ``coords`` (N, 2) int64 level-0 top-left x, y; root attributes
    ``slide_id``, ``patient_id``, ``encoder``, ``spec`` (JSON), ``schema_version``, ``provenance``; and, where given,
    ``colour`` (N, 30) float32, the colour statistics of the tiles, from which the colour baseline is fitted, and the
    attributes ``stain`` (JSON), how their colours were normalised before both, and ``tiling`` (JSON), the rules by
    which the tiles were kept.

    Raises
    ------
    InputError
        If a feature is not finite (naming slide and tile), so that no training run meets one.
    """
    if (
        features.ndim != 2
        or coords.shape != (len(features), 2)
        or (colour is not None and len(colour) != len(features))
    ):
        raise ValueError(
            f"features {features.shape}, coords {coords.shape} and colour do not belong together"
        )
    if features.dtype not in (np.float16, np.float32):
        features = features.astype(np.float32)
    info = FeatureInfo(
        slide_id,
        patient_id,
        len(features),
        features.shape[1],
        encoder,
        spec,
        stain,
        tiling=tiling or {},
    )
    write_feature_blocks(path, [features], coords, info, dtype=features.dtype, colour=colour)


def write_feature_blocks(
    path: str | Path,
    blocks: Iterable[NDArray[np.floating]],
    coords: NDArray[np.int64],
    info: FeatureInfo,
    *,
    dtype: np.dtype,
    colour: NDArray[np.floating] | None = None,
    **made_by: Any,
) -> None:
    """Write the file of :func:`write_features` from blocks of rows, so that one block at a time is in memory.

    Parameters
    ----------
    blocks
        (·, D) features, together N rows, written as `dtype`.
    info
        All but the arrays; where its positions are not `LEVEL0`, the attribute ``positions`` says so.
    **made_by
        Joins the provenance.

    Raises
    ------
    InputError
        As :func:`write_features`; nothing is left under the final name.
    """
    with create_hdf5(path, **made_by) as file:
        shape = (info.n_tiles, info.width)
        features = file.create_dataset(
            "features", shape, dtype, chunks=_chunks(*shape, dtype.itemsize)
        )
        row = 0
        for block in blocks:
            _check_finite(block, row, coords, info)
            features[row : row + len(block)] = block
            row += len(block)
        if row != info.n_tiles:
            raise ValueError(f"{row} rows of features for {info.n_tiles} tiles")
        file.create_dataset("coords", data=coords.astype(np.int64))
        if colour is not None:
            file.create_dataset("colour", data=colour.astype(np.float32))
        file.attrs["slide_id"] = info.slide_id
        file.attrs["patient_id"] = info.patient_id
        file.attrs["encoder"] = info.encoder
        file.attrs["spec"] = json.dumps(info.spec.as_dict())
        if info.positions != LEVEL0:
            file.attrs["positions"] = info.positions
        write_stain(file, info.stain)
        if info.tiling:
            file.attrs["tiling"] = json.dumps(dict(info.tiling), sort_keys=True)


def _check_finite(
    block: NDArray[np.floating], row: int, coords: NDArray[np.int64], info: FeatureInfo
) -> None:
    bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
    if bad.size:
        first = int(bad[0])
        where = tuple(int(v) for v in coords[row + first])
        place = f"level-0 position {where}" if info.positions == LEVEL0 else f"row {row + first}"
        so_far = "" if row + len(block) == info.n_tiles else "at least "
        raise InputError(
            f"slide {info.slide_id}: {so_far}{bad.size} tiles have features that are not finite, the first at {place}",
            fix="check the encoder's precision (try --precision 32-true) and the slide's pixels there",
        )


def _chunks(rows: int, width: int, itemsize: int) -> tuple[int, int] | None:
    """Chunks of whole rows of about 256 KiB, so that a sample of tiles reads little more than itself."""
    if not rows or not width:
        return None
    return max(1, min(rows, (256 * 1024) // (width * itemsize) or 1)), width


def read_feature_info(path: str | Path) -> FeatureInfo:
    """Read all but the arrays."""
    with open_hdf5(path, kind="feature", needs=("features", "coords")) as file:
        return _info(file)


def read_features(
    path: str | Path, rows: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64], FeatureInfo]:
    """Features (N, D) as float32 with coords (N, 2); `rows`, sorted and unique, selects tiles.

    Raises
    ------
    InputError
        If shapes disagree or a feature is not finite.
    """
    with open_hdf5(path, kind="feature", needs=("features", "coords")) as file:
        info = _info(file)
        if rows is None:
            features, coords = file["features"][:].astype(np.float32), file["coords"][:]
        else:
            features = _read_rows(file["features"], rows).astype(np.float32, copy=False)
            coords = file["coords"][:][rows]
    check_coords(coords, path=path)
    if not np.isfinite(features).all():
        raise InputError(
            "holds features that are not finite (NaN or infinity)", path=path, fix="encode it again"
        )
    return features, coords.astype(np.int64), info


def _read_rows(dataset: h5py.Dataset, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows (sorted, unique) in blocks: HDF5's own selection of single rows is up to 20 times slower."""
    out = np.empty((len(rows), *dataset.shape[1:]), dtype=np.float32)
    for first in range(0, len(dataset), _ROWS_A_BLOCK):
        start, stop = np.searchsorted(rows, [first, first + _ROWS_A_BLOCK])
        if start < stop:
            block = dataset[rows[start] : rows[stop - 1] + 1]
            out[start:stop] = block[rows[start:stop] - rows[start]]
    return out


def read_mean_colour(path: str | Path) -> NDArray[np.float32] | None:
    """(30,) mean over tiles of the colour statistics, or None where the file has none."""
    with open_hdf5(path, kind="feature", needs=("features",)) as file:
        if "colour" not in file or not len(file["colour"]):
            return None
        return np.asarray(file["colour"][:].mean(axis=0), dtype=np.float32)


def find_features(folder: str | Path) -> dict[str, Path]:
    """Slide id -> feature file, sorted, for a folder that tcgn-mil encode wrote."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            "no such folder of feature files", path=folder, fix="run tcgn-mil encode first"
        )
    found = {
        path.stem: path for path in sorted(folder.glob("*.h5")) if not path.name.startswith(".")
    }
    if not found:
        raise InputError(
            "holds no feature file (*.h5)", path=folder, fix="run tcgn-mil encode first"
        )
    return found


def _info(file: h5py.File) -> FeatureInfo:
    shape = file["features"].shape
    if len(shape) != 2 or len(file["coords"]) != shape[0]:
        raise InputError(
            f"features {shape} and coords {file['coords'].shape} do not match",
            path=file.filename,
            fix="encode it again",
        )
    slide_id = str(file.attrs.get("slide_id", Path(file.filename).stem))
    return FeatureInfo(
        slide_id=slide_id,
        patient_id=str(file.attrs.get("patient_id", slide_id)),
        n_tiles=int(shape[0]),
        width=int(shape[1]),
        encoder=str(file.attrs.get("encoder", "unknown")),
        spec=tile_spec(file, kind="feature"),
        stain=read_stain(file, kind="feature"),
        positions=_positions(file),
        tiling=json_attr(file, "tiling", kind="feature") if "tiling" in file.attrs else {},
    )


def _positions(file: h5py.File) -> str:
    found = str(file.attrs.get("positions", LEVEL0))
    if found not in POSITIONS:
        raise InputError(
            f"its positions are {found[:60]!r}", path=file.filename, fix="make the file again"
        )
    return found
