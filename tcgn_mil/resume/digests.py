"""Digests of inputs, by which a file is recognised that changed since a result was made from it.

A digest is of what a file holds. Names and times do not enter, because a folder may be copied or
moved between two runs. Tables and features are read whole up to 64 MiB. Slides are too large for
that: over 4 MiB its size enters, and 64 blocks of 4 KiB from its beginning to its end. A slide that
is scanned, compressed or written again differs in nearly all of them. An edit in place that keeps
the size and touches none of the blocks is not seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

MISSING = "missing"
# Larger files enter by their size and by blocks at fixed places, so that the check stays quick.
_WHOLE_BYTES = 64 * 2**20
_BLOCKS, _BLOCK_BYTES = 256, 64 * 2**10
_WHOLE_SLIDE_BYTES = 4 * 2**20
_SLIDE_BLOCKS, _SLIDE_BLOCK_BYTES = 64, 4 * 2**10
_SHOWN_DIGITS = 32


def input_digest(path: str | Path) -> str:
    """Return the SHA-256 digest of a file, or of its size and 256 blocks if it is over 64 MiB.

    Examples
    --------
    >>> _ = Path("table.csv").write_text("a,b")
    >>> input_digest("table.csv")[:8]
    '1eb7c54d'
    """
    return _digest(Path(path), _WHOLE_BYTES, _BLOCKS, _BLOCK_BYTES)


def slide_digest(paths: Sequence[str | Path]) -> str:
    """Return the digest of the files of one slide, which reads at most 4 MiB of each.

    Parameters
    ----------
    paths
        The files. Most formats have one; MIRAX and DICOM have several, whose order matters.

    Returns
    -------
    str
        32 hexadecimal digits.

    Examples
    --------
    >>> _ = Path("slide.svs").write_bytes(bytes(5 * 2**20))
    >>> before = slide_digest(["slide.svs"])
    >>> _ = Path("slide.svs").write_bytes(bytes(5 * 2**20 - 1))  # it was cut off
    >>> slide_digest(["slide.svs"]) == before
    False
    """
    parts = [
        _digest(Path(path), _WHOLE_SLIDE_BYTES, _SLIDE_BLOCKS, _SLIDE_BLOCK_BYTES) for path in paths
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:_SHOWN_DIGITS]


def _digest(path: Path, whole_bytes: int, blocks: int, block_bytes: int) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        if size <= whole_bytes:
            while block := file.read(2**20):
                digest.update(block)
            return digest.hexdigest()
        digest.update(str(size).encode())
        for block_number in range(blocks):
            file.seek(block_number * (size - block_bytes) // (blocks - 1))
            digest.update(file.read(block_bytes))
    return digest.hexdigest()


def digests_of(inputs: Mapping[str, str | Path | None], *, quick: bool = False) -> dict[str, str]:
    """Return the digest of each input that is given.

    Parameters
    ----------
    inputs
        File, or folder whose files (not those of folders below it) are all inputs, by name; None
        for an input that is not used. What is not there has a digest of its own, because a file
        that was deleted is a change as well.
    quick
        Read each file as little as a slide, for folders of features that are read anyway.
    """
    digests = {}
    for name, given in inputs.items():
        if given is None:
            continue
        path = Path(given)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file() and not _hidden(file))
            parts = [f"{file.name} {_one(file, quick)}" for file in files]
            digests[name] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        else:
            digests[name] = _one(path, quick) if path.is_file() else MISSING
    return digests


def _one(path: Path, quick: bool) -> str:
    return slide_digest([path]) if quick else input_digest(path)


def _hidden(path: Path) -> bool:
    """Return whether a file is a lock, a log or has a temporary name, and so is no result."""
    return path.name.startswith(".") or path.name == "log.jsonl"
