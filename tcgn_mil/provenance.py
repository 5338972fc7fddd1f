"""Describe the code that makes a file: package versions and the git commit."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tcgn_mil.version import __version__

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
    """Return the git commit of the code.

    Returns
    -------
    str or None
        The commit, followed by ``+dirty`` if files were changed since. None if the code is not in a
        git checkout, for example because the package was installed from a wheel.
    """
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
    """Collect the metadata that every file of results carries.

    Parameters
    ----------
    **extra
        Values to add, for example the config and the seed.

    Returns
    -------
    dict
        Schema version, version of this package, git commit, versions of Python and of the main
        packages, and `extra`.

    Examples
    --------
    >>> made = provenance(seed=3)
    >>> made["schema_version"], made["seed"]
    (1, 3)
    """
    packages = {name: _installed_version(name) for name in _REPORTED_PACKAGES}
    return {
        "schema_version": SCHEMA_VERSION,
        "tcgn_mil": __version__,
        "git_commit": git_commit(),
        "python": sys.version.split()[0],
        "packages": {name: number for name, number in packages.items() if number},
        **extra,
    }


@cache
def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
