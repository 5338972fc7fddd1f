"""Read and write features/<slide>.h5, the features of a slide's tiles by one encoder.

Features are read in slices, so that a cohort of 10 000 tiles per slide does not have to fit into
memory. The HDF5 file has these datasets and root attributes:

- ``features`` (N, D) float16 or float32;
- ``coords`` (N, 2) int64, top-left corners in level-0 pixels, x then y;
- ``colour`` (N, 30) float32, colour statistics of the tiles for the colour baseline (optional);
- ``feature_names`` (D,) UTF-8 text, for features that were imported from a table (optional);
- ``slide_id``, ``patient_id``, ``encoder``, ``schema_version``; ``spec``, ``provenance``,
  ``stain`` (optional) and ``tiling`` (optional) as JSON; ``positions`` if not level-0 pixels.

Features are finite. Those of tables (:attr:`FeatureInfo.may_be_missing`) may also be missing (NaN).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.hdf5 import (
    check_coords,
    create_hdf5,
    find_files,
    json_attr,
    open_hdf5,
    read_rows,
    read_stain,
    row_chunks,
    tile_spec,
    write_stain,
    write_text_dataset,
)
from tcgn_mil.tcga_barcodes import patient_of
from tcgn_mil.types.features import LEVEL0, POSITIONS, FeatureInfo, SlideFeatures
from tcgn_mil.types.tiles import TileSet


def write_features(
    path: str | Path,
    features: NDArray[np.floating],
    tiles: TileSet,
    *,
    encoder: str,
    colour: NDArray[np.floating] | None = None,
    **made_by: Any,
) -> None:
    """Write the features of a slide atomically.

    Parameters
    ----------
    path
        File to write.
    features
        (N, D). float16 is stored as it is, other types as float32.
    tiles
        The N tiles. Their coordinates, slide, patient, geometry, stain normalisation and settings
        are stored.
    encoder
        Name and hash of the encoder.
    colour
        (N, 30) colour statistics of the tiles, from which the colour baseline is fitted. None to
        store none.
    **made_by
        Values to add to the provenance.

    Raises
    ------
    InputError
        If a feature is not finite. The message names the slide and the tile.
    """
    lengths = {len(tiles), len(features), len(features if colour is None else colour)}
    if features.ndim != 2 or len(lengths) > 1:
        raise ValueError(f"features {features.shape}, {len(tiles)} tiles and colour do not match")
    if features.dtype not in (np.float16, np.float32):
        features = features.astype(np.float32)
    info = FeatureInfo(
        tiles.slide_id,
        tiles.patient_id,
        len(features),
        features.shape[1],
        encoder,
        tiles.spec,
        tiles.stain,
        tiling=tiles.settings,
    )
    write_feature_blocks(
        path, [features], tiles.coords, info, dtype=features.dtype, colour=colour, **made_by
    )


def write_feature_blocks(
    path: str | Path,
    blocks: Iterable[NDArray[np.floating]],
    coords: NDArray[np.int64],
    info: FeatureInfo,
    *,
    dtype: np.dtype,
    colour: NDArray[np.floating] | None = None,
    names: Sequence[str] = (),
    **made_by: Any,
) -> None:
    """Write the features of a slide block by block, so that only one block is in memory.

    Parameters
    ----------
    path
        File to write.
    blocks
        Arrays of shape (any number of rows, D), together N rows.
    coords
        (N, 2) coordinates.
    info
        Metadata to store.
    dtype
        Type in which the features are stored.
    colour
        (N, 30) colour statistics, or None.
    names
        Names of the D features, if they have names.
    **made_by
        Values to add to the provenance.

    Raises
    ------
    InputError
        If a feature is not finite, and not a missing value. No file is left under the final name.
    """
    with create_hdf5(path, **made_by) as file:
        shape = (info.n_tiles, info.width)
        features = file.create_dataset(
            "features", shape, dtype, chunks=row_chunks(*shape, dtype.itemsize)
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
        if names:
            write_text_dataset(file, "feature_names", names)
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
    bad = np.flatnonzero(~info.valid(block).all(axis=1))
    if bad.size:
        first = int(bad[0])
        where = tuple(int(v) for v in coords[row + first])
        place = f"level-0 position {where}" if info.positions == LEVEL0 else f"row {row + first}"
        so_far = "" if row + len(block) == info.n_tiles else "at least "
        raise InputError(
            f"slide {info.slide_id}: {so_far}{bad.size} tiles have features that are not finite,"
            f" the first at {place}",
            fix="encode the slide at 32 bits (--precision 32-true), and look at this position",
        )


@reads("a feature file", fix="encode the slide again")
def read_feature_info(path: str | Path) -> FeatureInfo:
    """Read the metadata of a feature file.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not a feature file.
    """
    with open_hdf5(path, kind="feature", needs=("features", "coords")) as file:
        return _info(file)


@reads("a feature file", fix="encode the slide again")
def read_features(path: str | Path, rows: NDArray[np.int64] | None = None) -> SlideFeatures:
    """Read features and coordinates, as float32 and int64.

    Parameters
    ----------
    path
        A feature file.
    rows
        Tiles to read, as sorted, different row numbers. None for all tiles.

    Raises
    ------
    InputError
        If the file is missing, damaged or not a feature file, or if a feature is neither finite nor
        a missing value.
    """
    stored = read_stored_features(path, rows)
    return stored._replace(features=stored.features.astype(np.float32, copy=False))


def read_stored_features(
    path: str | Path, rows: NDArray[np.int64] | None = None, *, info: FeatureInfo | None = None
) -> SlideFeatures:
    """Read features as float16 if they are stored so, and as float32 otherwise.

    Parameters
    ----------
    path, rows
        As in :func:`read_features`, which raises the same errors.
    info
        Metadata of the file, if they were read before.
    """
    with open_hdf5(path, kind="feature", needs=("features", "coords")) as file:
        info = info or _info(file)
        features = read_rows(file["features"], rows)
        coords = file["coords"][:] if rows is None else file["coords"][:][rows]
    check_coords(coords, path=path)
    expected = (info.n_tiles if rows is None else len(rows), info.width)
    if features.shape != expected or len(coords) != len(features):
        raise InputError(
            f"holds features {features.shape}, and {expected} when it was opened",
            path=path,
            fix="run the command again when no other program writes this file",
        )
    if features.dtype != np.float16:
        features = features.astype(np.float32, copy=False)
    if not info.all_valid(features):
        raise InputError(
            "holds features that are not finite (NaN or infinity)",
            path=path,
            fix="encode the slide again",
        )
    return SlideFeatures(features, coords.astype(np.int64, copy=False), info)


@reads("a feature file", fix="encode the slide again")
def read_feature_names(path: str | Path) -> tuple[str, ...]:
    """Read the names of the features.

    Returns
    -------
    tuple of str
        The D names of features that were imported from a table. Empty for those of an encoder.

    Examples
    --------
    >>> import numpy as np
    >>> from tcgn_mil.types.tile_geometry import PatchSize, TileSpec
    >>> spec = TileSpec.for_slide(PatchSize(), slide_mpp=0.25, level_downsamples=[1])
    >>> info = FeatureInfo("S1", "P1", 1, 2, "table:nuclei", spec)
    >>> values, coords = np.array([[4.2, np.nan]], np.float32), np.zeros((1, 2), np.int64)
    >>> names = ["area", "axis"]
    >>> write_feature_blocks("S1.h5", [values], coords, info, dtype=values.dtype, names=names)
    >>> read_feature_names("S1.h5")
    ('area', 'axis')
    """
    with open_hdf5(path, kind="feature", needs=("features", "coords")) as file:
        if "feature_names" not in file:
            return ()
        return tuple(file["feature_names"].asstr()[:])


@reads("a feature file", fix="encode the slide again")
def read_mean_colour(path: str | Path) -> NDArray[np.float32] | None:
    """Return the mean of the colour statistics over the tiles.

    Returns
    -------
    ndarray or None
        (30,) float32. None if the file has no colour statistics.
    """
    with open_hdf5(path, kind="feature", needs=("features",)) as file:
        if "colour" not in file or not len(file["colour"]):
            return None
        return np.asarray(file["colour"][:].mean(axis=0), dtype=np.float32)


def find_features(folder: str | Path) -> dict[str, Path]:
    """Find the feature files in a folder.

    Parameters
    ----------
    folder
        Folder that ``tcgn-mil encode`` wrote.

    Returns
    -------
    dict
        Feature file of each slide, sorted by the names of the slides.

    Raises
    ------
    InputError
        If there is no such folder or it has no feature file.
    """
    return find_files(
        folder, ".h5", kind="feature", fix="run tcgn-mil encode or import-features first"
    )


def _info(file: h5py.File) -> FeatureInfo:
    shape, root = file["features"].shape, file["/"]
    if len(shape) != 2 or len(file["coords"]) != shape[0]:
        raise InputError(
            f"features {shape} and coords {file['coords'].shape} do not match",
            path=file.filename,
            fix="encode the slide again",
        )
    slide_id = str(root.attrs.get("slide_id", Path(file.filename).stem))
    safe_file_name(slide_id, what="its slide id")
    return FeatureInfo(
        slide_id=slide_id,
        patient_id=patient_of(str(root.attrs.get("patient_id", slide_id))),
        n_tiles=int(shape[0]),
        width=int(shape[1]),
        encoder=str(root.attrs.get("encoder", "unknown")),
        spec=tile_spec(root, kind="feature"),
        stain=read_stain(root, kind="feature"),
        positions=_positions(root),
        tiling=json_attr(root, "tiling", kind="feature") if "tiling" in root.attrs else {},
    )


def _positions(file: h5py.Group) -> str:
    if (positions := str(file.attrs.get("positions", LEVEL0))) in POSITIONS:
        return positions
    raise InputError(
        f"its attribute 'positions' is {positions[:60]!r}, which is not known",
        path=file.file.filename,
        fix="make the file again",
    )
