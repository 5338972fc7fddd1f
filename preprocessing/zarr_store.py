"""Read Zarr stores of unknown origin: folders of many small files, of format 2 or 3.

A store is as open to mischief as an archive: a link in it may lead to any file of the machine, a
path in its metadata may climb out of it, and a few bytes may claim an array of any size. All this
is checked before anything is read into memory. Chunks that are missing are no error for zarr, which
returns a fill value for them. They are counted, because a copy that was cut off looks like this.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tcgn_mil.errors import InputError

SUFFIX = ".zarr"
DAMAGED = (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, zlib.error)
"""Exceptions of zarr and its codecs for damaged stores."""
_METADATA = ("zarr.json", ".zattrs", ".zgroup", ".zarray", ".zmetadata")
_ARRAYS = ("zarr.json", ".zarray")
_MAX_METADATA = 64 * 2**20
_SAMPLED_FILES = 64
MAX_CHUNK_BYTES = 1_200_000_000  # an image of 400 million pixels that was stored in one piece
# As for HDF5 files: no codec packs a slide or a table of counts by more. Arrays as small as a chunk
# may be pass, because a picture of one colour packs by any ratio.
_LARGEST_RATIO = 1100
COPY_AGAIN = "copy the whole folder again; a tool that counts files shows whether some are missing"


def is_store(path: Path) -> bool:
    """Return whether a folder is a group or an array of Zarr."""
    return path.is_dir() and any((path / name).is_file() for name in _METADATA)


def read_attributes(group: Path) -> dict[str, Any]:
    """Read the attributes of a group or array, of Zarr format 2 or 3.

    Returns
    -------
    dict
        Empty if the folder is no group or array, or has no attributes.

    Raises
    ------
    InputError
        If the metadata are damaged or larger than 64 MB.
    """
    if (group / "zarr.json").is_file():
        attributes = read_json(group / "zarr.json").get("attributes", {})
    elif (group / ".zattrs").is_file():
        attributes = read_json(group / ".zattrs")
    else:
        return {}
    return attributes if isinstance(attributes, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """Read a metadata file, which holds a JSON object.

    Raises
    ------
    InputError
        If it holds something else, or is larger than 64 MB.
    """
    try:
        if path.stat().st_size > _MAX_METADATA:
            raise InputError("is larger than 64 MB", path=path, fix="check the store")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"is damaged ({str(error)[:100] or type(error).__name__})", path=path, fix=COPY_AGAIN
        ) from error
    if not isinstance(content, dict):
        raise InputError("holds no JSON object", path=path, fix=COPY_AGAIN)
    return content


def check_links(store: Path) -> None:
    """Refuse a store with a link that leads out of it.

    The store itself may be reached by a link.

    Raises
    ------
    InputError
        If a link leads elsewhere, or nowhere.
    """
    root = os.path.realpath(store)
    for entry in _entries(store):
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath([root, target]) != root or not Path(target).exists():
                raise InputError(
                    f"{os.path.relpath(entry.path, store)} is a link that leads out of the store",
                    path=store,
                    fix="copy the files that it leads to into the store, if you trust their origin",
                )


def inside(store: Path, name: object) -> Path:
    """Return the folder in a store that a path in its metadata names.

    Raises
    ------
    InputError
        If the path is no text, is absolute or climbs out of the store.
    """
    parts = Path(name).parts if isinstance(name, str) else ()
    if not parts or Path(*parts).is_absolute() or ".." in parts or "\0" in str(name):
        raise InputError(
            f"its metadata name {str(name)[:100]!r}, which is no path inside the store",
            path=store,
            fix="write the store again by the tool that made it",
        )
    return store.joinpath(*parts)


class StoredArray(NamedTuple):
    """A lazy array, and how much of it is stored.

    Attributes
    ----------
    array
        Array of zarr, open for reading.
    chunks
        Number of its chunks, or of shards if it has them.
    stored
        Number of those that the store holds.
    """

    array: Any
    chunks: int
    stored: int


def open_array(path: Path) -> StoredArray:
    """Open an array after checking what it claims.

    Parameters
    ----------
    path
        Folder of the array.

    Raises
    ------
    InputError
        If it is damaged or of a format that the installed zarr does not read; if one of its chunks
        is larger than 1.2 GB; or if it claims more than 1,100 times the bytes that are stored.
    """
    array = _open(path)
    _check_claims(array, path)
    pieces = getattr(array, "shards", None) or array.chunks
    number = math.prod(-(-side // piece) for side, piece in zip(array.shape, pieces, strict=True))
    return StoredArray(array, number, sum(1 for _ in _chunk_files(path)))


def check_arrays(group: Path) -> None:
    """Check what the arrays of a group claim, in all groups below it; see :func:`open_array`.

    Arrays that are damaged are found when they are read.
    """
    for name in _ARRAYS:
        for metadata in group.rglob(name):
            content = read_json(metadata)
            if name == ".zarray" or content.get("node_type") == "array":
                try:
                    array = _open(metadata.parent)
                except InputError:
                    continue
                _check_claims(array, metadata.parent)


def _open(path: Path) -> Any:
    import zarr  # loading it takes longer than loading all readers together

    if not any((path / name).is_file() for name in _ARRAYS):
        raise InputError("holds no Zarr array", path=path, fix=COPY_AGAIN)
    try:
        return zarr.open_array(str(path), mode="r")
    except DAMAGED as error:
        raise _unreadable(path, error) from error


def _check_claims(array: Any, path: Path) -> None:
    # Texts of any length count as pointers: what they claim is in their chunks alone.
    itemsize = int(array.dtype.itemsize)
    if math.prod(array.chunks) * itemsize > MAX_CHUNK_BYTES:
        raise InputError(
            f"has chunks of {array.chunks}, each of which takes more than 1.2 GB of memory",
            path=path,
            fix="write it again with smaller chunks, for example of 512 x 512 pixels",
        )
    claimed = math.prod(array.shape) * itemsize
    bytes_stored = stored_bytes(path, enough=claimed / _LARGEST_RATIO)
    if claimed > MAX_CHUNK_BYTES and claimed > _LARGEST_RATIO * bytes_stored:
        raise InputError(
            f"claims {claimed / 1e9:.1f} GB, but {bytes_stored} bytes are stored for it",
            path=path,
            fix=COPY_AGAIN,
        )


def stored_bytes(path: Path, *, enough: float = math.inf) -> int:
    """Return the bytes of the chunks below a folder; counting ends where they are enough."""
    total = 0
    for entry in _chunk_files(path):
        if total >= enough:
            break
        total += entry.stat().st_size
    return total


def fingerprint(store: Path) -> list[Path]:
    """Return the metadata files of a store, of which one changes when the store is written again.

    Metadata that are damaged or missing are found when the store is read.
    """
    return sorted(
        Path(entry.path) for entry in _entries(store) if entry.name in _METADATA and entry.is_file()
    )


def sample_files(store: Path) -> list[Path]:
    """Return the metadata files of a store and 64 of its other files, evenly spread by name.

    Reading all files of a large slide would take as long as copying it.
    """
    described: list[str] = []
    others: list[str] = []
    for entry in _entries(store):
        if entry.is_file():
            (described if entry.name in _METADATA else others).append(entry.path)
    others.sort()
    steps = range(min(_SAMPLED_FILES, len(others)))
    sampled = [others[step * len(others) // len(steps)] for step in steps]
    return [Path(path) for path in [*sorted(described), *sampled]]


def _chunk_files(path: Path) -> Iterator[os.DirEntry[str]]:
    return (
        entry
        for entry in _entries(path)
        if not entry.name.startswith(".") and entry.name != "zarr.json" and entry.is_file()
    )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield all files and folders below a folder; links are yielded and not followed."""
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)


def _unreadable(path: Path, error: Exception) -> InputError:
    import zarr

    if (path / "zarr.json").is_file() and int(zarr.__version__.split(".")[0]) < 3:
        return InputError(
            f"is of Zarr format 3, which zarr {zarr.__version__} does not read",
            path=path,
            fix="run: pip install 'zarr>=3' (with Python 3.11 or newer)",
        )
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return InputError(f"cannot be read as a Zarr array ({reason[:200]})", path=path, fix=COPY_AGAIN)
