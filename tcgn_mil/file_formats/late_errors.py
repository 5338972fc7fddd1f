"""A file that HDF5 can write to and close although the disk is full."""

from __future__ import annotations

import io
from typing import Any


class LateErrors(io.FileIO):
    """A file that keeps an error of the disk until HDF5 has closed it.

    HDF5 cannot close a file whose last parts cannot be written. Objects of it then stay behind, and
    end the process with a segmentation fault when Python frees them. Here HDF5 sees no error, and
    whoever opened the file raises it at the end.

    Attributes
    ----------
    error
        First error of the disk; None if there was none. Nothing is written after it.
    """

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
