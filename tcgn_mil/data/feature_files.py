"""features/<slide>.h5: one encoder's features of a slide's tiles.

Read by slices, so that neither a slide's pixels nor a cohort's features need fit in memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.contracts import PatchSize, Stain, TileSpec
from tcgn_mil.data.hdf5 import check_coords, create_hdf5, open_hdf5, read_stain, tile_spec, write_stain
from tcgn_mil.errors import InputError

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
    """

    slide_id: str
    patient_id: str
    n_tiles: int
    width: int
    encoder: str
    spec: TileSpec
    stain: Stain | None = None

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
) -> None:
    """Write features atomically.

    Layout: ``features`` (N, D) float16 or float32, ``coords`` (N, 2) int64 level-0 top-left x, y; root attributes
    ``slide_id``, ``patient_id``, ``encoder``, ``spec`` (JSON), ``schema_version``, ``provenance``; and, where given,
    ``colour`` (N, 30) float32, the colour statistics of the tiles, from which the colour baseline is fitted, and the
    attribute ``stain`` (JSON), how their colours were normalised before both.

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
        raise ValueError(f"features {features.shape}, coords {coords.shape} and colour do not belong together")
    if features.dtype not in (np.float16, np.float32):
        features = features.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if bad.size:
        raise InputError(
            f"slide {slide_id}: {bad.size} tiles have features that are not finite, the first at level-0"
            f" position {tuple(int(v) for v in coords[bad[0]])}",
            fix="check the encoder's precision (try --precision 32-true) and the slide's pixels there",
        )
    with create_hdf5(path) as file:
        file.create_dataset("features", data=features, chunks=_chunks(features))
        file.create_dataset("coords", data=coords.astype(np.int64))
        if colour is not None:
            file.create_dataset("colour", data=colour.astype(np.float32))
        file.attrs["slide_id"] = slide_id
        file.attrs["patient_id"] = patient_id
        file.attrs["encoder"] = encoder
        file.attrs["spec"] = json.dumps(spec.as_dict())
        write_stain(file, stain)


def _chunks(features: np.ndarray) -> tuple[int, int] | None:
    """Chunks of whole rows of about 256 KiB, so that a sample of tiles reads little more than itself."""
    rows, width = features.shape
    if not rows or not width:
        return None
    return max(1, min(rows, (256 * 1024) // (width * features.itemsize) or 1)), width


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
        raise InputError("holds features that are not finite (NaN or infinity)", path=path, fix="encode it again")
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
        raise InputError("no such folder of feature files", path=folder, fix="run tcgn-mil encode first")
    found = {path.stem: path for path in sorted(folder.glob("*.h5")) if not path.name.startswith(".")}
    if not found:
        raise InputError("holds no feature file (*.h5)", path=folder, fix="run tcgn-mil encode first")
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
    )
