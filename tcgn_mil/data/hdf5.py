"""Opening HDF5 files with errors that a user can act on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tcgn_mil.artefacts import SCHEMA_VERSION, atomic_path, provenance
from tcgn_mil.errors import InputError


@contextlib.contextmanager
def open_hdf5(path: str | Path, *, kind: str, needs: tuple[str, ...] = ()) -> Iterator[h5py.File]:
    """Open `path` for reading and check that it holds the datasets in `needs`.

    Raises
    ------
    InputError
        If the file is missing, is no HDF5 file (cut off, for instance), or lacks a dataset.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such {kind} file", path=path, fix="check the path, or make the file first")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"cannot be read as HDF5 ({str(error).split('(')[0].strip()})", path=path, fix="make the file again"
        ) from error
    with file:
        missing = [name for name in needs if name not in file]
        if missing:
            raise InputError(f"is no {kind} file: it has no {', '.join(missing)}", path=path, fix="check the path")
        yield file


@contextlib.contextmanager
def create_hdf5(path: str | Path, **made_by: Any) -> Iterator[h5py.File]:
    """Write an HDF5 file atomically; schema version and provenance go to the root attributes."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["provenance"] = json.dumps(provenance(**made_by), default=str)
        yield file


def json_attr(file: h5py.File, name: str, *, kind: str) -> dict[str, Any]:
    """A root attribute that holds a JSON object."""
    if name not in file.attrs:
        raise InputError(f"is no {kind} file of this package: no attribute {name!r}", path=file.filename)
    value = json.loads(str(file.attrs[name]))
    if not isinstance(value, dict):
        raise InputError(f"attribute {name!r} is no JSON object", path=file.filename)
    return value


def check_coords(coords: np.ndarray, *, path: str | Path) -> None:
    """Raise InputError unless `coords` is an integer (N, 2) array."""
    if coords.ndim != 2 or coords.shape[1] != 2 or not np.issubdtype(coords.dtype, np.integer):
        raise InputError(f"coords are {coords.dtype} {coords.shape}, not integer (N, 2)", path=path)
