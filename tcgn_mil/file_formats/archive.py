"""Limit what compressed files may unpack to, before they are unpacked.

A compressed file of a few megabytes can unpack to a thousand times as much. Tables and arrays that
are not made for that purpose shrink by far less: a table of counts of which 95 of 100 are zero by
about 40.
"""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

from tcgn_mil.errors import InputError

MAX_RATIO = 200
SMALL_BYTES = 2**28  # this much may be unpacked from a file of any size
_CHUNK_BYTES = 2**22


def most_unpacked(packed_bytes: int) -> int:
    """Return the largest size in bytes that a compressed file may unpack to.

    Examples
    --------
    >>> most_unpacked(1000) // 2**20, most_unpacked(2**30) // 2**30
    (256, 200)
    """
    return max(SMALL_BYTES, MAX_RATIO * packed_bytes)


def check_archive(archive: zipfile.ZipFile, path: str | Path) -> None:
    """Refuse a ZIP archive whose files claim to unpack to far more than the archive holds.

    zipfile never yields more bytes of a file than its directory states, so that this is a bound.

    Raises
    ------
    InputError
        If the archive unpacks to more than 256 MiB and more than 200 times its own size.
    """
    size, packed = sum(entry.file_size for entry in archive.infolist()), Path(path).stat().st_size
    if size > most_unpacked(packed):
        raise too_large(path, size, packed)


def gzip_size(path: str | Path, most: int) -> int:
    """Return the unpacked size of a .gz file in bytes, or a number above `most` if it is larger.

    The file is unpacked and counted, because the size that it states at its end may be wrong. The
    count ends early where what was unpacked so far is both much and packed 200 times.
    """
    size = 0
    with Path(path).open("rb") as raw, gzip.open(raw) as file:
        while size <= most and (chunk := file.read(_CHUNK_BYTES)):
            size += len(chunk)
            if size > max(SMALL_BYTES, MAX_RATIO * raw.tell()):
                return max(size, most + 1)
    return size


def too_large(path: str | Path, size: int, packed: int) -> InputError:
    """Return the error for a file of `packed` bytes that unpacks to `size` bytes or more."""
    return InputError(
        f"holds {packed / 1e6:.1f} MB, but unpacks to {size / 1e6:.0f} MB or more; the limit is"
        f" {MAX_RATIO} times its size",
        path=path,
        fix="unpack the file yourself if you trust it, and give the unpacked file",
    )
