"""Writing results: to a temporary name first, then renamed, each with what made it.

A file under its final name is always whole, so a run that was killed can trust what it finds.

Small labelled tables as CSV, and predictions as AnnData.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcgn_mil.errors import InputError

_SAFE_NAME = re.compile(r"[^/\\\x00-\x1f]+")


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it on success, remove it on any failure.

    The temporary name ends in the final suffix, since several writers choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}", dir=path.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically; keys keep their order, NaN is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=str) + "\n")


def safe_file_name(name: str, *, what: str) -> str:
    """Return `name` if it can be one file name inside a folder.

    Raises
    ------
    InputError
        If it is empty, hidden, a parent reference, or holds a path separator or a control character,
        so that no identifier from a table can leave the output folder.
    """
    if name.startswith(".") or len(name) > 200 or not _SAFE_NAME.fullmatch(name):
        raise InputError(
            f"{what} {name!r} cannot be a file name", fix="use letters, digits, '.', '_' and '-'"
        )
    return name


def write_csv(path: str | Path, table: pd.DataFrame, *, index: bool = False) -> None:
    """Write a table atomically; numbers with 6 significant digits."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=index, float_format="%.6g")


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts of plain values, None where there is no answer, for JSON."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()}
        for row in frame.to_dict("records")
    ]


def write_array(path: str | Path, values: np.ndarray) -> None:
    """Write an array as .npy, atomically."""
    with atomic_path(path) as temporary, Path(temporary).open("wb") as file:
        np.save(file, values, allow_pickle=False)


def read_array(path: str | Path) -> np.ndarray:
    """Read an array of :func:`write_array`.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"cannot be read ({error})", path=path, fix="remove it and run again"
        ) from error
