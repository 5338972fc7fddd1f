"""A file that HDF5 can write to and close although the disk is full."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def late_errors(path: str | Path) -> Iterator[io.FileIO]:
    """Open a file to write, and raise an error of the disk only when the block has ended.

    HDF5 cannot close a file whose last parts cannot be written. Objects of it then stay behind, and
    end the process with a segmentation fault when Python frees them. Here HDF5 sees no error.

    Parameters
    ----------
    path
        File to write.

    Yields
    ------
    io.FileIO
        An argument for ``h5py.File``. Nothing is written to it after an error.

    Raises
    ------
    OSError
        If the disk is full or fails. It replaces what HDF5 makes of the part that is missing.
    """
    with _PatientFile(path, "w+b") as file:
        try:
            yield file
        finally:
            if file.error is not None:
                raise file.error


class _PatientFile(io.FileIO):
    """A file that keeps its first error, and writes nothing after it."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, which a plain file may do in part, and return their size."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen the file."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0
