"""Open and create HDF5 files, and read and write the attributes that several of them share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.late_errors import late_errors
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.hdf5_limits import check_hdf5
from tcgn_mil.io.atomic import atomic_path
from tcgn_mil.provenance import SCHEMA_VERSION, provenance
from tcgn_mil.text import preview
from tcgn_mil.types.tile_geometry import TileSpec
from tcgn_mil.types.tiles import Stain

_ROWS_PER_BLOCK = 4096
_CHUNK_BYTES = 256 * 1024


@contextlib.contextmanager
def open_hdf5(path: str | Path, *, kind: str, needs: tuple[str, ...] = ()) -> Iterator[h5py.File]:
    """Open a file for reading.

    Parameters
    ----------
    path
        The file.
    kind
        Kind of file in error messages, for example ``tile`` or ``feature``.
    needs
        Names of datasets that the file must have.

    Yields
    ------
    h5py.File

    Raises
    ------
    InputError
        If the file is missing, is not HDF5 (for example because it was cut off), lacks a dataset,
        claims far more data than it stores, leads to other files, or turns out to be damaged while
        it is read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"no such {kind} file", path=path, fix="check the path, or make the file first"
        )
    with describe_damage(path, what="HDF5", fix="make the file again"):
        file = h5py.File(path, "r")
    with file:
        missing = [name for name in needs if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            raise InputError(
                f"is not a {kind} file: it has no {', '.join(missing)}",
                path=path,
                fix="check the path",
            )
        try:
            check_hdf5(file, path)
            yield file
        except OSError as error:
            # Errors of the operating system, unlike HDF5's, have a number; not only of this file.
            if error.errno is not None:
                raise
            raise InputError(
                f"is damaged ({str(error).split('(')[0].strip()})",
                path=path,
                fix="make the file again",
            ) from error


@contextlib.contextmanager
def create_hdf5(path: str | Path, **made_by: Any) -> Iterator[h5py.File]:
    """Create a file atomically, with schema version and provenance as root attributes.

    Parameters
    ----------
    path
        File to write.
    **made_by
        Values to add to the provenance.

    Yields
    ------
    h5py.File
        The file, open for writing.
    """
    with atomic_path(path) as part, late_errors(part) as raw, h5py.File(raw, "w") as file:
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["provenance"] = json.dumps(provenance(**made_by), default=str)
        yield file


def find_files(folder: str | Path, suffix: str, *, kind: str, fix: str) -> dict[str, Path]:
    """Find the files of one kind in a folder.

    Parameters
    ----------
    folder
        The folder.
    suffix
        Suffix of the files, ``.h5`` or ``.h5ad``.
    kind
        Kind of file in error messages, for example ``feature``.
    fix
        Advice if there is no such file.

    Returns
    -------
    dict
        Each file by its name without suffix, sorted. Hidden files are left out, because a file
        under a temporary name is one.

    Raises
    ------
    InputError
        If there is no such folder or no such file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no such folder of {kind} files", path=folder, fix=fix)
    paths = [path for path in sorted(folder.glob(f"*{suffix}")) if not path.name.startswith(".")]
    if not paths:
        raise InputError(f"holds no {kind} file (*{suffix})", path=folder, fix=fix)
    return {path.stem: path for path in paths}


def root_attr(file: h5py.Group, name: str, *, kind: str) -> Any:
    """Return a root attribute that every file of this kind has.

    Raises
    ------
    InputError
        If the attribute is missing.
    """
    attributes = file.attrs
    if name not in attributes:
        raise InputError(
            f"is not a {kind} file of this package: it has no attribute {name!r}",
            path=file.file.filename,
            fix="make it with tcgn-mil",
        )
    return attributes[name]


def json_attr(file: h5py.Group, name: str, *, kind: str) -> dict[str, Any]:
    """Return a root attribute that holds a JSON object.

    Raises
    ------
    InputError
        If the attribute is missing or is not a JSON object.
    """
    text = str(root_attr(file, name, kind=kind))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # a JSONDecodeError is a ValueError
        value = None
    if not isinstance(value, dict):
        raise InputError(
            f"attribute {name!r} is not a JSON object",
            path=file.file.filename,
            fix="make the file again",
        )
    return value


def read_provenance(path: str | Path, *, kind: str) -> dict[str, Any]:
    """Read what made a file; empty if the file does not say it.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    with open_hdf5(path, kind=kind) as file:
        return json_attr(file, "provenance", kind=kind) if "provenance" in file.attrs else {}


def tile_spec(file: h5py.Group, *, kind: str) -> TileSpec:
    """Return the geometry of the tiles from the attribute ``spec``.

    Raises
    ------
    InputError
        If the attribute is missing or was written by another version.
    """
    values = json_attr(file, "spec", kind=kind)
    expected = {field.name for field in fields(TileSpec) if field.default is MISSING}
    possible = {field.name for field in fields(TileSpec)}
    if not expected <= set(values) <= possible:
        raise InputError(
            f"its tile spec holds {preview(sorted(values))}, not"
            f" {preview(sorted(expected), most=8)}",
            path=file.file.filename,
            fix="make the file again with this version",
        )
    return TileSpec(**values)


def write_stain(file: h5py.File, stain: Stain | None) -> None:
    """Write a stain normalisation as the attribute ``stain`` (JSON), or no attribute for None."""
    if stain is not None:
        file.attrs["stain"] = json.dumps(asdict(stain))


def read_stain(file: h5py.Group, *, kind: str) -> Stain | None:
    """Return the stain normalisation in the attribute ``stain``, or None if there is none.

    Raises
    ------
    InputError
        If the attribute is not a stain normalisation.
    """
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
            "its attribute 'stain' is not a stain normalisation",
            path=file.file.filename,
            fix="make the file again",
        ) from error


def read_rows(dataset: h5py.Dataset, rows: NDArray[np.int64] | None) -> NDArray[Any]:
    """Read rows of a dataset, given as sorted, different numbers; None reads all.

    h5py can select single rows, but up to 20 times more slowly than this: read the range from the
    first to the last wanted row of each block, and select in memory.
    """
    count = len(dataset) if rows is None else len(rows)
    # The memory of a large array of NumPy comes in huge pages, which are mapped quickly.
    out = np.empty((count, *dataset.shape[1:]), dtype=dataset.dtype)
    if rows is None:
        if out.size:
            dataset.read_direct(out)
        return out
    for first in range(0, len(dataset), _ROWS_PER_BLOCK):
        start, stop = np.searchsorted(rows, [first, first + _ROWS_PER_BLOCK])
        if start < stop:
            block = dataset[rows[start] : rows[stop - 1] + 1]
            np.take(block, rows[start:stop] - rows[start], axis=0, out=out[start:stop])
    return out


def row_chunks(rows: int, width: int, itemsize: int) -> tuple[int, int] | None:
    """Return an HDF5 chunk of whole rows of about 256 KiB.

    HDF5 reads whole chunks. With small chunks, reading a sample of the tiles reads little else.
    """
    if not rows or not width:
        return None
    return max(1, min(rows, _CHUNK_BYTES // (width * itemsize) or 1)), width


def write_text_dataset(file: h5py.File, name: str, values: Sequence[str]) -> None:
    """Write text in UTF-8, padded to one length, because HDF5 compresses no other text."""
    encoded = [value.encode() for value in values]
    text = h5py.string_dtype("utf-8", max(map(len, encoded)))
    file.create_dataset(name, data=np.array(encoded, dtype=text), compression="gzip")


def read_coords(path: str | Path, *, kind: str) -> NDArray[np.int64]:
    """Read the coordinates of a tile or feature file alone, (N, 2) int64.

    Raises
    ------
    InputError
        If the file cannot be read, or its coordinates are not an integer array of that shape.
    """
    with open_hdf5(path, kind=kind, needs=("coords",)) as file:
        coords = file["coords"][:]
    check_coords(coords, path=path)
    return np.asarray(coords, dtype=np.int64)


def check_coords(coords: np.ndarray, *, path: str | Path) -> None:
    """Check that coordinates are an integer array of shape (N, 2).

    Raises
    ------
    InputError
        If they are not.
    """
    if coords.ndim != 2 or coords.shape[1] != 2 or not np.issubdtype(coords.dtype, np.integer):
        raise InputError(
            f"coords are {coords.dtype} {coords.shape}, not integer (N, 2)",
            path=path,
            fix="make the file again",
        )


def check_pixels(
    images: NDArray[Any] | Any, names: list[str], *, path: str | Path | None = None
) -> None:
    """Check that images are uint8 before they reach an encoder.

    Floating-point pixels may be scaled to 0 to 1 or to 0 to 255, or may contain NaN. An encoder
    would accept all of them and give meaningless features.

    Parameters
    ----------
    images
        (N, H, W, 3) array or HDF5 dataset. Pixels are read only if the dtype is wrong.
    names
        Names of the N images, for the error message.
    path
        File of the images, for the error message.

    Raises
    ------
    InputError
        If the pixels are not uint8. The message says how many images hold NaN or infinity.
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
    raise InputError(
        reason,
        path=path,
        fix="store pixels as uint8, 0 to 255, and make the file again from the image",
    )
