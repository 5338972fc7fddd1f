"""Define the error that is raised for wrong input of a user, and find errors of the disk."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

# HDF5 writes "errno = 28", pyarrow "[errno 28]" and safetensors "os error 28".
_NUMBER = re.compile(r"(?:errno(?: =)?|os error) (\d+)", re.IGNORECASE)
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # NumPy, which gives no number


class InputError(ValueError):
    """Wrong input: a file, a table, an option, a config key or a checkpoint.

    The command line prints ``str(error)`` and exits with code 2. A run over many slides writes
    ``reason`` and ``fix`` into its failures.csv and continues with the next slide.

    Parameters
    ----------
    reason
        Description of the problem, with the column, slide or value.
    path
        The file or folder that has the problem, if there is one.
    fix
        One thing that the user can do.

    Examples
    --------
    >>> print(InputError("has no column id", path="folds.csv", fix="add the column"))
    folds.csv: has no column id. Fix: add the column
    """

    def __init__(
        self, reason: str, *, path: str | Path | None = None, fix: str | None = None
    ) -> None:
        self.reason = " ".join(reason.split())
        self.path = None if path is None else str(path)
        self.fix = None if fix is None else " ".join(fix.split())
        super().__init__(str(self))

    def __reduce__(self) -> tuple:
        # An error in a worker process is pickled. By default, pickle would call the class with one
        # positional argument, the whole message.
        return _rebuild, (self.reason, self.path, self.fix)

    def __str__(self) -> str:
        file = f"{self.path}: " if self.path else ""
        fix = f" Fix: {self.fix}" if self.fix else ""
        text = f"{file}{self.reason.rstrip('.')}.{fix}"
        # Names in files may hold line breaks, and sequences that command a terminal.
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _rebuild(reason: str, path: str | None, fix: str | None) -> InputError:
    return InputError(reason, path=path, fix=fix)


class ReportedElsewhereError(InputError):
    """Error that another process of torchrun reports, so that this one ends without a line."""


def disk_error(error: BaseException, path: str | Path) -> OSError | None:
    """Return the operating system's error that a library has put into other words.

    Several libraries raise an error of their own if the disk is full, with the number of the
    operating system's error in its text.

    Parameters
    ----------
    error
        Error that was raised while a file was written. The errors before it count as well, because
        a library may fail a second time when it closes the file.
    path
        The file, for the message.

    Returns
    -------
    OSError or None
        None if no number is stated.

    Examples
    --------
    >>> print(disk_error(RuntimeError("write failed: errno = 28, error message = ..."), "S1.h5"))
    [Errno 28] No space left on device: 'S1.h5'
    """
    current: BaseException | None = error
    while current is not None:
        number = current.errno if isinstance(current, OSError) else None
        if number is None and (stated := _NUMBER.search(str(current))):
            number = int(stated[1])
        if number is None and isinstance(current, OSError) and _SHORT_WRITE.search(str(current)):
            number = errno.ENOSPC
        if number is not None:
            return OSError(number, os.strerror(number), str(path))
        current = current.__cause__ or current.__context__
    return None
