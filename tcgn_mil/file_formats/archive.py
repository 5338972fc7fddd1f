"""Limit what compressed files may unpack to, before they are unpacked.

A compressed file of a few megabytes can unpack to a thousand times as much. Tables and arrays that
are not made for that purpose shrink by far less: a table of counts of which 95 of 100 are zero by
about 40.
"""

from __future__ import annotations

import gzip
import struct
import zipfile
from pathlib import Path

from tcgn_mil.errors import InputError

MAX_RATIO = 200
SMALL_BYTES = 2**28  # this much may be unpacked from a file of any size
_CHUNK_BYTES, _SAMPLE_BYTES = 2**22, 2**25


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

    The file is unpacked and counted. The size that it states at its end is used only where what
    was unpacked so far shrinks as much as that, because a file that is cut off states anything.
    """
    path = Path(path)
    packed = path.stat().st_size
    with path.open("rb") as raw:
        raw.seek(max(0, packed - 4))
        tail = raw.read(4)
        stated = struct.unpack("<I", tail)[0] if len(tail) == 4 else 0
        raw.seek(0)
        size = 0
        with gzip.open(raw) as file:
            while size <= most and (chunk := file.read(_CHUNK_BYTES)):
                size += len(chunk)
                if size >= _SAMPLE_BYTES and stated > most and size > MAX_RATIO * raw.tell():
                    return int(stated)
    return size


def too_large(path: str | Path, size: int, packed: int) -> InputError:
    """Return the error for a file of `packed` bytes that unpacks to `size` bytes or more."""
    return InputError(
        f"holds {packed / 1e6:.1f} MB, but unpacks to {size / 1e6:.0f} MB or more, which is more"
        f" than {MAX_RATIO} times as much",
        path=path,
        fix="unpack the file yourself if you trust it, and give the unpacked file",
    )
