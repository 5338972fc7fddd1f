"""Packages that only some parts of the project need, and the line that installs each.

A plain install brings what the demo needs. The other packages belong to extras of setup.cfg. They
are imported where they are used, after :func:`need_extra`, so that a missing one is one line on the
command line and not a traceback.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import MappingProxyType

from tcgn_mil.errors import InputError

EXTRA_OF = MappingProxyType(
    {
        "openpyxl": "excel",
        "peft": "lora",
        "pydicom": "dicom",
        "pylibCZIrw": "czi",
        "ray": "ray",
        "spatialdata": "spatialdata",
        "torchstain": "stain",
        "transformers": "transformers",
    }
)
"""The extra that installs a package, by the name under which the package is imported."""
_NOTES = {"spatialdata": " (with Python 3.11 or newer)"}


def install_line(package: str) -> str:
    """Return the remedy for a missing package.

    Examples
    --------
    >>> install_line("pydicom")
    "run: pip install 'tcgn-mil[dicom]'"
    """
    return f"run: pip install 'tcgn-mil[{EXTRA_OF[package]}]'{_NOTES.get(package, '')}"


def has_extra(package: str) -> bool:
    """Return whether a package of an extra is installed. It is not imported."""
    assert package in EXTRA_OF
    return importlib.util.find_spec(package) is not None


def need_extra(package: str, purpose: str, *, path: str | Path | None = None) -> None:
    """Raise an error with the line to install, unless a package of an extra can be imported.

    Parameters
    ----------
    package
        Name under which the package is imported; a key of `EXTRA_OF`.
    purpose
        What needs it, as the subject of a sentence in the singular, for example ``reading CZI``.
    path
        The file that cannot be read without it, if there is one.

    Raises
    ------
    InputError
        If the package is not installed, or its import fails.
    """
    fix = install_line(package)
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name == package:
            raise InputError(
                f"{purpose} needs the package {package}, which is not installed", path=path, fix=fix
            ) from None
        raise _broken(package, purpose, path, error) from error
    except (ImportError, OSError) as error:  # OSError: a shared library that is missing
        raise _broken(package, purpose, path, error) from error


def _broken(package: str, purpose: str, path: str | Path | None, error: Exception) -> InputError:
    """Make the error for a package that is there and does not work."""
    return InputError(
        f"{purpose} needs the package {package}, which is installed but cannot be imported"
        f" ({str(error)[:200]})",
        path=path,
        fix=install_line(package).replace("install", "install --upgrade", 1),
    )
