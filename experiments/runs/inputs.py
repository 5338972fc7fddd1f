"""Record what went into a run, so that it never continues on, or is returned for, other inputs.

``inputs.json`` in the folder of a run has one digest for each input, by the name that messages use.
It is written before any result. Digests are of what files hold and not of their names, because a
folder may be moved between two attempts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.log_files import RUN_LOG
from tcgn_mil.experiments.runs.run_folder import INPUTS_FILE
from tcgn_mil.io.atomic import write_json
from tcgn_mil.text import preview

_MISSING = "missing"
# Larger files enter by their size and by blocks at fixed places, so that the check stays quick.
_WHOLE_BYTES = 64 * 2**20
_BLOCKS, _BLOCK_BYTES = 256, 64 * 2**10


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 digest of a file, or of its size and 256 blocks if it is over 64 MiB.

    Examples
    --------
    >>> _ = Path("table.csv").write_text("a,b")
    >>> file_digest("table.csv")[:8]
    '1eb7c54d'
    """
    size = Path(path).stat().st_size
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        if size <= _WHOLE_BYTES:
            digest.update(file.read())
            return digest.hexdigest()
        digest.update(str(size).encode())
        for block in range(_BLOCKS):
            file.seek(block * (size - _BLOCK_BYTES) // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def digests_of(inputs: Mapping[str, str | Path | None]) -> dict[str, str]:
    """Return the digest of each input that is given.

    Parameters
    ----------
    inputs
        File, or folder whose files (not those of folders below it) are all inputs, by name; None
        for an input that is not used. What is not there has a digest of its own, because a file
        that was deleted is a change as well.
    """
    digests = {}
    for name, given in inputs.items():
        if given is None:
            continue
        path = Path(given)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file())
            files = [file for file in files if file.name != RUN_LOG]  # grows with each command
            parts = [f"{file.name} {file_digest(file)}" for file in files]
            digests[name] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        else:
            digests[name] = file_digest(path) if path.is_file() else _MISSING
    return digests


def check_same_inputs(out_dir: Path, digests: Mapping[str, str], *, finished: bool) -> None:
    """Refuse to continue or to return a run whose inputs changed since it began.

    Parameters
    ----------
    out_dir
        Folder of the run. A folder without recorded digests passes.
    digests
        Digest of each input, by its name in the message.
    finished
        Whether the run is complete, for the message.

    Raises
    ------
    InputError
        If an input changed. The message names the inputs.
    """
    marker = out_dir / INPUTS_FILE
    before = json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else {}
    changed = [
        f"{name}{' (not there any more)' if digest == _MISSING else ''}"
        for name, digest in digests.items()
        if before.get(name, digest) != digest
    ]
    if changed:
        raise InputError(
            f"holds {'a finished' if finished else 'an unfinished'} run on other inputs:"
            f" {preview(changed, most=6)} changed since it began",
            path=out_dir,
            fix="choose another --out folder, or remove this one",
        )


def record_inputs(
    out_dir: Path, inputs: Mapping[str, str | Path | None], *, finished: bool
) -> None:
    """Record the inputs of a run in its folder, or check that they are those recorded before.

    Raises
    ------
    InputError
        If an input changed since the run began.
    """
    digests = digests_of(inputs)
    check_same_inputs(out_dir, digests, finished=finished)
    if not (out_dir / INPUTS_FILE).is_file() and not finished:
        write_json(out_dir / INPUTS_FILE, digests)
