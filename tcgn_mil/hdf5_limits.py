"""Check what an HDF5 file claims before anything of it is read into memory.

A file of a few kilobytes can claim datasets of many gigabytes, which cost memory and minutes when
they are read, and its datasets can lie in other files of the machine.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import h5py

from tcgn_mil.errors import InputError

# Deflate, the strongest of HDF5's usual filters, stores at best 1,032 bytes in one.
_LARGEST_RATIO = 1100
# Datasets up to this size are read whatever their ratio; a mask of zeros may be stored in nothing.
_SMALL_BYTES = 32 * 2**20
_LARGEST_BYTES = 1 << 42
_MOST_OBJECTS = 100_000
_COLLECTION = b"GCOL\x01\0\0\0"  # how a collection of the global heap begins
_SEARCHED_BYTES = 2**20


def check_hdf5(file: h5py.File, path: str | Path) -> None:
    """Refuse a file whose datasets lie elsewhere, or are far larger than the file.

    Parameters
    ----------
    file
        The open file.
    path
        Its path, for the error message.

    Raises
    ------
    InputError
        If a link or a dataset leads to another file; if a dataset claims more than 1,100 times the
        bytes that are stored for it; if there are more than 100,000 objects; or if reading its
        texts would never end.

    Examples
    --------
    >>> with h5py.File("bomb.h5", "w") as bomb:
    ...     _ = bomb.create_dataset("features", (2**24, 512), "f4", chunks=(256, 512))
    >>> try:
    ...     check_hdf5(h5py.File("bomb.h5"), "bomb.h5")
    ... except InputError as error:
    ...     print(error.reason)
    dataset features claims 34.4 GB, but 0 bytes are stored for it
    """
    _check_heaps(Path(file.filename), path)
    try:
        _check(file, path)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        # h5py's errors of damaged groups and links have these classes.
        raise InputError(
            f"is damaged ({str(error).split('(')[0].strip()})", path=path, fix="make the file again"
        ) from error


def _check_heaps(stored: Path, path: str | Path) -> None:
    """Refuse a file over whose texts the HDF5 library (2.0 and earlier) would loop for ever.

    Texts of any length lie in collections, each object of which states its size. The library goes
    from one object to the next by this size, and never ends where it is zero. Only the first and
    last part of the file are searched, where attributes usually lie.
    """
    with stored.open("rb") as file:
        parts = [file.read(_SEARCHED_BYTES)]
        file.seek(max(_SEARCHED_BYTES, stored.stat().st_size - _SEARCHED_BYTES))
        parts.append(file.read(_SEARCHED_BYTES))
    for part in parts:
        start = part.find(_COLLECTION)
        while start >= 0:
            if _loops(part[start:]):
                raise InputError(
                    "is damaged (a collection of texts does not end)",
                    path=path,
                    fix="make the file again",
                )
            start = part.find(_COLLECTION, start + 1)


def _loops(collection: bytes) -> bool:
    """Return whether an object of a collection leads to itself."""
    end = min(struct.unpack_from("<Q", collection.ljust(16, b"\0"), 8)[0], len(collection))
    at = 16
    while at + 16 <= end:
        number, size = struct.unpack_from("<H6xQ", collection, at)
        # The free space has number 0, and its size includes these 16 bytes.
        step = size if number == 0 else (16 + (size + 7) // 8 * 8) % 2**64
        if step == 0:
            return True
        at += step
    return False


def _check(file: h5py.File, path: str | Path) -> None:
    for name, dataset in _datasets(file, path):
        created = dataset.get_create_plist()
        if created.get_external_count() or created.get_layout() == h5py.h5d.VIRTUAL:
            raise InputError(
                f"dataset {name} lies in another file",
                path=path,
                fix="copy the data into the file, for example by h5repack",
            )
        if dataset.shape is None:
            continue  # a dataset without a value, as AnnData writes for None
        claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
        if claimed <= _SMALL_BYTES:
            continue
        stored = dataset.get_storage_size()
        if claimed > min(_LARGEST_BYTES, _LARGEST_RATIO * stored):
            raise InputError(
                f"dataset {name} claims {claimed / 1e9:.1f} GB, but {stored} bytes are stored for"
                " it",
                path=path,
                fix="make the file again",
            )


def _datasets(file: h5py.File, path: str | Path) -> Iterator[tuple[str, h5py.h5d.DatasetID]]:
    """Yield all datasets with their names; links to other files are refused.

    The low-level interface of h5py is used, because this is done whenever a file is opened: its
    objects take a third of the time to make.
    """
    waiting: list[tuple[str, h5py.h5g.GroupID]] = [("", file.id)]
    seen = {h5py.h5o.get_info(file.id).addr}  # a link may lead back to a group above it
    count = 0
    while waiting:
        prefix, group = waiting.pop()
        for key in group:
            name = f"{prefix}{key.decode('utf-8', errors='replace')}"
            if group.links.get_info(key).type == h5py.h5l.TYPE_EXTERNAL:
                raise InputError(
                    f"{name} is a link to another file",
                    path=path,
                    fix="copy the data into the file, for example by h5repack",
                )
            try:
                item = h5py.h5o.open(group, key)
            except KeyError:
                continue  # a soft link that leads nowhere
            count += 1
            if count > _MOST_OBJECTS:
                raise InputError(
                    f"holds more than {_MOST_OBJECTS} objects", path=path, fix="check the file"
                )
            if isinstance(item, h5py.h5d.DatasetID):
                yield name, item
            elif isinstance(item, h5py.h5g.GroupID):
                address = h5py.h5o.get_info(item).addr
                if address not in seen:
                    seen.add(address)
                    waiting.append((f"{name}/", item))
