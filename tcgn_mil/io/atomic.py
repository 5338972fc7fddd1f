"""Write text, JSON, CSV and arrays atomically: to a temporary name first, then renamed.

A file under its final name is therefore always complete. A run that was killed and started again
can trust every file that it finds. What a killed process left under a temporary name is removed by
the next process that writes into the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tcgn_mil.errors import InputError, disk_error
from tcgn_mil.file_formats.numpy_file import read_npy
from tcgn_mil.file_formats.spreadsheet_cells import escape_table

if TYPE_CHECKING:
    import pandas as pd

# Temporary names hold the machine and the process that writes.
_TEMPORARY = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-.*\.tmp.*")
_MOST_BYTES = 200  # file systems allow 255, of which suffixes and temporary names need some
_SAFE_NAME = re.compile(r"[^/\\\x00-\x1f]+")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` at the end.

    If the block raises an error, the temporary file is removed and an older file at `path` stays
    as it was. The temporary name has the suffix of `path`, because several libraries choose the
    format by the suffix.

    Parameters
    ----------
    path
        Final name. Missing folders are created.

    Yields
    ------
    Path
        The temporary file to write.

    Raises
    ------
    InputError
        If the folder is removed meanwhile, or its drive goes away.
    OSError
        If the disk is full or fails, whatever a library in the block makes of that.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    # The same folder, because a rename is atomic only within one file system. A long name is cut,
    # because the temporary name has to fit as well.
    handle, name = tempfile.mkstemp(
        prefix=temporary_prefix(path.stem),
        suffix=f".tmp{path.suffix}",
        dir=path.parent,
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # Without fsync, a crash of the machine soon after the rename can leave an empty file.
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        # mkstemp makes files that only the owner can read; give the usual permissions.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except InputError:
        raise
    except Exception as error:
        if not path.parent.is_dir():
            raise InputError(
                "was removed while files were written to it, or its drive is gone",
                path=path.parent,
                fix="see that the drive is there, and run the command again",
            ) from error
        if (failed := disk_error(error, path)) is not None:
            raise failed from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def temporary_prefix(name: str) -> str:
    """Return the beginning of a temporary name, which says the machine and the process.

    If the rest of the name ends in ``.tmp``, :func:`remove_leftovers` removes what a killed process
    left there.
    """
    return f".{name[:40]}.{_machine()}-{os.getpid()}-"


@cache
def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders of dead processes of this machine, once for each folder.

    Parameters
    ----------
    folder
        The folder that holds them.
    """
    for path in folder.glob(".*.tmp*"):
        found = _TEMPORARY.fullmatch(path.name)
        if found and found["machine"] == _machine() and not _is_alive(int(found["process"])):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
                continue
            with contextlib.suppress(OSError):  # another process may remove it at the same time
                path.unlink()


@cache
def _machine() -> str:
    """Return a short name of this machine; process numbers mean something on one machine only."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    if os.name == "nt":
        return True  # there, os.kill ends the process that it asks for
    try:
        os.kill(process, 0)  # signal 0 asks whether there is such a process
    except ProcessLookupError:
        return False
    except OSError:
        return True  # a process of another user
    return True


@cache
def _umask() -> int:
    """Return the process's umask, which can be read only by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically. Keys keep their order.

    Raises
    ------
    ValueError
        If a number is NaN or infinite, which JSON cannot represent.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def without_nan(value: Any) -> Any:
    """Return a value for JSON with None in place of NaN and infinity, at any depth.

    Examples
    --------
    >>> without_nan({"c": float("nan"), "rows": [(1.5, float("inf"))]})
    {'c': None, 'rows': [[1.5, None]]}
    """
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_csv(
    path: str | Path,
    table: pd.DataFrame,
    *,
    index: bool = False,
    digits: int | None = 6,
    separator: str = ",",
) -> None:
    """Write a table as CSV atomically.

    Parameters
    ----------
    path
        File to write.
    table
        The table. Missing values become empty cells. Text that a spreadsheet would run as a formula
        gets an apostrophe before it (:mod:`tcgn_mil.file_formats.spreadsheet_cells`).
    index
        Whether the index is written as the first column.
    digits
        Significant digits of floating-point numbers; None for all digits.
    separator
        Character between cells.
    """
    with atomic_path(path) as temporary:
        escape_table(table).to_csv(
            temporary,
            index=index,
            sep=separator,
            float_format=None if digits is None else f"%.{digits}g",
            lineterminator="\n",
        )


def write_array(path: str | Path, values: np.ndarray) -> None:
    """Write an array as .npy atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def read_array(path: str | Path) -> np.ndarray:
    """Read an array that :func:`write_array` wrote.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    try:
        return read_npy(path)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"cannot be read ({error})", path=path, fix="remove the file and run the command again"
        ) from error


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert a data frame to one dictionary per row, for JSON.

    Missing and infinite values become None, since JSON has neither.

    Examples
    --------
    >>> import pandas as pd
    >>> plain_rows(pd.DataFrame({"gene": ["A", "B"], "r": [0.5, None]}))
    [{'gene': 'A', 'r': 0.5}, {'gene': 'B', 'r': None}]
    """
    import pandas as pd

    return [
        {
            str(key): None if pd.isna(value) or value in (np.inf, -np.inf) else value
            for key, value in row.items()
        }
        for row in frame.to_dict("records")
    ]


def as_file_name(text: str) -> str:
    """Return a name of a file for any text, such as a gene and a slide.

    Characters that are special to a file system become ``-``. If that or the length changes the
    text, a hash keeps different texts apart.

    Examples
    --------
    >>> as_file_name("S1_GZMA")
    'S1_GZMA'
    >>> as_file_name("S1_HLA-A/B")
    'S1_HLA-A-B-...'
    """
    plain = re.sub(r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]', "-", text).lstrip(".")
    encoded = plain.encode("utf-8")
    if plain == text and 0 < len(encoded) <= _MOST_BYTES:
        return text
    digest = hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:8]
    return f"{encoded[:100].decode('utf-8', errors='ignore')}-{digest}"


def safe_file_name(name: str, *, what: str) -> str:
    """Check that a name from a table can be used as a file name, and return it.

    The check keeps an identifier such as ``../x`` from leaving the output folder.

    Parameters
    ----------
    name
        For example a slide's name.
    what
        Name of the value in the error message, for example ``slide id``.

    Returns
    -------
    str
        `name`.

    Raises
    ------
    InputError
        If the name is empty, longer than 200 bytes in UTF-8, where an umlaut has two, starts with a
        dot, or has a path separator, a control character or bytes that are no text.
    """
    encoded = name.encode("utf-8", errors="surrogateescape")
    if len(encoded) > _MOST_BYTES:
        raise InputError(
            f"{what} {name[:20]!r}… has {len(encoded)} bytes, and names of files here at most"
            f" {_MOST_BYTES}",
            fix="shorten the name",
        )
    if not encoded.isascii() and encoded.decode("utf-8", errors="replace") != name:
        raise InputError(
            f"{what} {name!r} holds bytes that are not UTF-8", fix="rename the file or the entry"
        )
    if name.startswith(".") or not _SAFE_NAME.fullmatch(name):
        raise InputError(
            f"{what} {name!r} cannot be a file name",
            fix="use letters, digits, '.', '_' and '-', and start with a letter or a digit",
        )
    return name
