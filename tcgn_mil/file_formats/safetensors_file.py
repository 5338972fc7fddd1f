"""Open safetensors files, whose tensors are mapped into memory and never larger than the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tcgn_mil.file_formats.reading import describe_damage


@contextmanager
def open_tensors(
    path: str | Path,
    *,
    what: str = "safetensors",
    fix: str = "copy the file again, or train the model again",
    framework: str = "pt",
) -> Iterator[Any]:
    """Open a file for reading its metadata, and its tensors one by one.

    Parameters
    ----------
    path
        The file.
    what, fix
        Kind of file and advice in the message.
    framework
        ``pt`` for tensors of torch, ``numpy`` for arrays.

    Yields
    ------
    safetensors.safe_open
        The block may only read the file, because every error of it names the file.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    from safetensors import safe_open

    with (
        describe_damage(path, what=what, fix=fix),
        safe_open(path, framework=framework) as file,
    ):
        yield file


def read_tensors_of(path: str | Path, **options: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the metadata and all tensors; the parameters are those of :func:`open_tensors`."""
    with open_tensors(path, **options) as file:
        names = list(file.keys())
        return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in names}
