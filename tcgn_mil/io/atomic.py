"""Writing results: to a temporary name first, then renamed, each with what made it.

A file under its final name is always whole, so a run that was killed can trust what it finds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tcgn_mil import __version__
from tcgn_mil.errors import InputError

SCHEMA_VERSION = 1
_REPORTED_PACKAGES = (
    "numpy",
    "torch",
    "timm",
    "h5py",
    "anndata",
    "scikit-learn",
    "pandas",
    "openslide-python",
)
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


def content_hash(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a JSON-serialisable value, for comparing specs and panels."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


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


@cache
def git_commit() -> str | None:
    """Commit of the checkout this code runs from, with ``+dirty`` where files differ; None outside one."""
    folder = Path(__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10
        )
        status = subprocess.run(
            ["git", "status", "--porcelain"], cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if commit.returncode:
        return None
    return commit.stdout.strip() + ("+dirty" if status.stdout.strip() else "")


def provenance(**extra: Any) -> dict[str, Any]:
    """What made an artefact: schema, code version, git commit, package versions, and `extra` (config, seed)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tcgn_mil": __version__,
        "git_commit": git_commit(),
        "python": sys.version.split()[0],
        "packages": {name: found for name in _REPORTED_PACKAGES if (found := _installed(name))},
        **extra,
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
