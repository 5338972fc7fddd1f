"""Read features from arrays of NumPy: ``.npy`` with features, ``.npz`` also with coordinates.

An ``.npy`` file holds one array: features of tiles (N, D), or a vector of the slide (D,). An
``.npz`` file has the names ``features`` and, if positions are known, ``coords``. Neither names the
encoder or the size of the tiles. No pickled object is loaded.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.numpy_file import map_npy, read_npz
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.preprocessing.features.readers.base import (
    SLIDE,
    FeatureReader,
    ForeignFeatures,
    check_coords_shape,
    check_features,
)
from tcgn_mil.preprocessing.features.readers.feature_rows import (
    COORD_NAMES,
    FEATURE_NAMES,
    FeatureRows,
    rows_shape,
    whole_coords,
)
from tcgn_mil.text import preview

SUFFIXES = (".npy", ".npz")


def is_numpy(path: Path) -> bool:
    """Return whether a file is an array of NumPy, judged by its suffix."""
    return path.suffix.lower() in SUFFIXES


@contextmanager
def open_numpy(path: Path) -> Iterator[ForeignFeatures]:
    """Open an array of features."""
    if not path.is_file():
        raise InputError("no such feature file", path=path, fix="check the path")
    fix = "save the features again with numpy.save, as one array of float32"
    with describe_damage(path, what="an array", fix=fix):
        features, coords = _load(path)
    if features.ndim == 1:
        check_features((1, *features.shape) if features.size else (0,), features.dtype, path=path)
        yield ForeignFeatures("numpy", FeatureRows(features[None]), None, level=SLIDE)
        return
    check_features(rows_shape(features.shape), features.dtype, path=path)
    rows = FeatureRows(features)
    if coords is not None:
        coords = whole_coords(coords, path=path)
        check_coords_shape(coords, len(rows), path=path)
    yield ForeignFeatures("numpy", rows, coords)


def _load(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return features and coordinates, the former mapped into memory where possible."""
    if not zipfile.is_zipfile(path):
        return map_npy(path), None
    with read_npz(path) as loaded:
        names = list(loaded)
        only = names[0] if len(names) == 1 and names[0].startswith("arr_") else None
        feature_name = next((name for name in FEATURE_NAMES if name in names), only)
        if feature_name is None:
            raise InputError(
                f"has no array features; it holds {preview(names)}",
                path=path,
                fix=f"name the array of features {FEATURE_NAMES[0]}",
            )
        coord_name = next((name for name in COORD_NAMES if name in names), None)
        return loaded[feature_name], None if coord_name is None else loaded[coord_name]


READER = FeatureReader("numpy", SUFFIXES, is_numpy, open_numpy)
