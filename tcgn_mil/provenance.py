"""Writing results: to a temporary name first, then renamed, each with what made it.

A file under its final name is always whole, so a run that was killed can trust what it finds.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tcgn_mil import __version__

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
