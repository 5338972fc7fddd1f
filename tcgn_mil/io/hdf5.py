"""Opening HDF5 files with errors that a user can act on.

The door that pixels pass before training and encoding: 8 bits a channel, so never NaN.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.provenance import SCHEMA_VERSION, provenance
from tcgn_mil.text import preview
from tcgn_mil.types.tile_geometry import TileSpec
from tcgn_mil.types.tiles import Stain


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
        raise InputError(
            f"no such {kind} file", path=path, fix="check the path, or make the file first"
        )
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"cannot be read as HDF5 ({str(error).split('(')[0].strip()})",
            path=path,
            fix="make the file again",
        ) from error
    with file:
        missing = [name for name in needs if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            raise InputError(
                f"is no {kind} file: it has no {', '.join(missing)}",
                path=path,
                fix="check the path",
            )
        try:
            yield file
        except OSError as error:
            if error.errno is not None:  # of some other file: HDF5's own errors bear no number
                raise
            raise InputError(
                f"is damaged ({str(error).split('(')[0].strip()})",
                path=path,
                fix="make the file again",
            ) from error


@contextlib.contextmanager
def create_hdf5(path: str | Path, **made_by: Any) -> Iterator[h5py.File]:
    """Write an HDF5 file atomically; schema version and provenance go to the root attributes."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["provenance"] = json.dumps(provenance(**made_by), default=str)
        yield file


def json_attr(file: h5py.File, name: str, *, kind: str) -> dict[str, Any]:
    """A root attribute that holds a JSON object."""
    try:
        value = json.loads(str(root_attr(file, name, kind=kind)))
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise InputError(
            f"attribute {name!r} is no JSON object", path=file.filename, fix="make the file again"
        )
    return value


def root_attr(file: h5py.File, name: str, *, kind: str) -> Any:
    """A root attribute that every file of this kind has."""
    if name not in file.attrs:
        raise InputError(
            f"is no {kind} file of this package: no attribute {name!r}",
            path=file.filename,
            fix="make it with tcgn-mil",
        )
    return file.attrs[name]


def tile_spec(file: h5py.File, *, kind: str) -> TileSpec:
    """The geometry of tiles in the attribute ``spec``."""
    values = json_attr(file, "spec", kind=kind)
    expected = {field.name for field in fields(TileSpec)}
    if set(values) != expected:
        raise InputError(
            f"its tile spec holds {preview(sorted(values))}, not {preview(sorted(expected), most=8)}",
            path=file.filename,
            fix="make the file again with this version",
        )
    return TileSpec(**values)


def write_stain(file: h5py.File, stain: Stain | None) -> None:
    """Store a stain normalisation in the attribute ``stain`` (JSON); without one there is none."""
    if stain is not None:
        file.attrs["stain"] = json.dumps(asdict(stain))


def read_stain(file: h5py.File, *, kind: str) -> Stain | None:
    """The stain normalisation in the attribute ``stain``, None where there is none."""
    if "stain" not in file.attrs:
        return None
    values = json_attr(file, "stain", kind=kind)
    try:
        target, source = (
            tuple(float(value) for value in values[name]) for name in ("target", "source")
        )
        return Stain(str(values["method"]), str(values["reference"]), target, source)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "its attribute 'stain' is no stain normalisation",
            path=file.filename,
            fix="make the file again",
        ) from error


def check_coords(coords: np.ndarray, *, path: str | Path) -> None:
    """Raise InputError unless `coords` is an integer (N, 2) array."""
    if coords.ndim != 2 or coords.shape[1] != 2 or not np.issubdtype(coords.dtype, np.integer):
        raise InputError(
            f"coords are {coords.dtype} {coords.shape}, not integer (N, 2)",
            path=path,
            fix="make the file again",
        )


_FIX = "store pixels as uint8, 0 to 255, and make the file again from the image"


def check_pixels(
    images: NDArray[Any] | Any, names: list[str], *, path: str | Path | None = None
) -> None:
    """Refuse images (N, H, W, 3), an array or an HDF5 dataset, that are not uint8.

    Parameters
    ----------
    images
        Read one by one, only where the dtype is wrong already.
    names
        Of the N images, for the message.
    path
        File they come from.

    Raises
    ------
    InputError
        If the pixels are not uint8; it says how many images hold NaN or infinity, and which is the first.
    """
    if images.dtype == np.uint8:
        return
    reason = f"has pixels of {images.dtype}, not uint8"
    if np.issubdtype(images.dtype, np.floating):
        indices = range(len(images))
        bad = [
            name
            for index, name in zip(indices, names, strict=False)
            if not np.isfinite(images[index]).all()
        ]
        if bad:
            reason += (
                f", and {len(bad)} of {len(names)} images hold NaN or infinity, {bad[0]} the first"
            )
    raise InputError(reason, path=path, fix=_FIX)
