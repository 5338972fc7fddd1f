"""Check the datasets and attributes of feature files in HDF5."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.io.hdf5 import open_hdf5
from tcgn_mil.preprocessing.features.readers.base import (
    ForeignFeatures,
    check_coords_shape,
    check_features,
)
from tcgn_mil.preprocessing.features.readers.feature_rows import (
    FeatureRows,
    rows_shape,
    whole_coords,
)

Answer = TypeVar("Answer")
SUFFIXES = (".h5", ".hdf5")
_MAX_CHUNK_BYTES = 2**30

# Exceptions of h5py, beside OSError, for a file whose internal structure is damaged.
_DAMAGE = (
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)


def holds(path: Path, question: Callable[[h5py.File], bool]) -> bool:
    """Open the file, and answer a question about what it holds.

    Raises
    ------
    InputError
        If the file is missing, damaged, or a feature file of this package.
    """
    with open_hdf5(path, kind="feature") as file:
        if _undamaged(path, lambda: "spec" in file.attrs and "encoder" in file.attrs):
            raise InputError(
                "is already a feature file of this package",
                path=path,
                fix="use it as it is, without import-features",
            )
        return _undamaged(path, lambda: question(file))


@contextmanager
def open_layout(
    path: Path, read: Callable[[h5py.File, Path], ForeignFeatures]
) -> Iterator[ForeignFeatures]:
    """Open the file, and give the features that `read` finds in it.

    Raises
    ------
    InputError
        If the file is missing or damaged, or if `read` refuses it.
    """
    with open_hdf5(path, kind="feature") as file:
        yield _undamaged(path, lambda: read(file, path))


def _undamaged(path: Path, action: Callable[[], Answer]) -> Answer:
    """Return the action's result; an exception that shows damage becomes an InputError."""
    try:
        return action()
    except InputError:
        raise
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(
            f"is damaged ({reason})", path=path, fix="encode the slide again"
        ) from error


def feature_dataset(file: h5py.File, name: str, path: Path) -> FeatureRows:
    """Return the rows of features after checking their shape, their dtype and their storage."""
    dataset = _dataset(file, name, path)
    check_features(rows_shape(dataset.shape), dataset.dtype, path=path)
    _check_written(dataset, path)
    return FeatureRows(dataset)


def vector_dataset(file: h5py.File, name: str, path: Path) -> NDArray[np.floating]:
    """Read the vector of a slide or patient, stored as (D,) or (1, D), as an array (1, D)."""
    dataset = _dataset(file, name, path)
    shape = (1, *dataset.shape) if dataset.ndim == 1 else rows_shape(dataset.shape)
    check_features(shape, dataset.dtype, path=path)
    if shape[0] != 1:
        raise InputError(
            f"says that it holds one vector, but its {name} have shape {dataset.shape}",
            path=path,
            fix="encode the slide again, or give features of tiles",
        )
    _check_written(dataset, path)
    return FeatureRows(dataset[:].reshape(shape))[0:1]


def _check_written(dataset: h5py.Dataset, path: Path) -> None:
    # HDF5 reads chunks that were never written as zeros. A tool that was stopped leaves such a
    # file, and its zeros would be taken for features.
    if dataset.chunks is None:
        whole = dataset.id.get_storage_size() > 0
    else:
        steps = zip(dataset.shape, dataset.chunks, strict=True)
        whole = dataset.id.get_num_chunks() == math.prod(-(-size // step) for size, step in steps)
    if not whole:
        raise InputError(
            "some of its features were never written", path=path, fix="encode the slide again"
        )


def coord_array(file: h5py.File, rows: int, path: Path, *, whole: bool = True) -> NDArray[Any]:
    """Read ``coords`` (`rows`, 2).

    Parameters
    ----------
    file
        Open file.
    rows
        Number of tiles.
    path
        The file, for error messages.
    whole
        The coordinates are level-0 pixels; if they are in floating point they have to be whole,
        and become integers. Otherwise they are returned as they are.
    """
    coords = _dataset(file, "coords", path)[()]
    coords = coords[0] if coords.ndim == 3 and len(coords) == 1 else coords
    check_coords_shape(coords, rows, path=path)
    return whole_coords(coords, path=path) if whole else coords


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return a dataset whose data lie in this file, in chunks that fit in memory."""
    # A link to another file could make the import read any file of this machine.
    link = file.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink) or not isinstance(file.get(name), h5py.Dataset):
        raise InputError(
            f"is not a feature file of another tool: it has no {name}",
            path=path,
            fix="check the path",
        )
    dataset = file[name]
    if dataset.external or dataset.is_virtual:
        raise InputError(
            f"its {name} are stored in another file",
            path=path,
            fix="give a file that holds its own data",
        )
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > _MAX_CHUNK_BYTES:
        raise InputError(
            f"chunks of its {name} are over 1 GiB", path=path, fix="write it with smaller chunks"
        )
    return dataset


def text_attribute(attributes: Any, name: str, *, most: int = 200) -> str:
    """Return at most `most` characters of a text attribute; empty if it is absent or no text."""
    value = attributes.get(name)
    value = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return value.decode("utf-8", "replace").strip()[:most] if isinstance(value, bytes) else ""


def size_attribute(file: h5py.File, name: str, path: Path) -> float:
    """Return a root attribute that gives the size of a tile, 1 to 100,000."""
    try:
        value = float(file.attrs[name])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not 1 <= value <= 1e5:
        raise InputError(
            f"its attribute {name} is not a size of a tile", path=path, fix="encode the slide again"
        )
    return value
