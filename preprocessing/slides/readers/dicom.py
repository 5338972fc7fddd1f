"""DICOM whole-slide images: a slide is a series of files, one a level, of which OpenSlide opens any one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.errors import InvalidDicomError

SUFFIX = ".dcm"
_FILE_NAME = re.compile(r"\w[\w .+-]*")
_TAGS = ["SeriesInstanceUID", "ContainerIdentifier"]


class Series(NamedTuple):
    """One slide: a file of it to open, and the name of its glass slide, empty where it has none."""

    file: Path
    container: str


def find_series(paths: Sequence[Path]) -> list[Series]:
    """The slides that DICOM files belong to, each with its first file; one that cannot be read stands for itself."""
    found: dict[str, Series] = {}
    for path in sorted(paths):
        try:
            header = pydicom.dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
        except (InvalidDicomError, OSError, ValueError, EOFError):
            found[str(path)] = Series(path, "")
            continue
        uid = str(header.get("SeriesInstanceUID", "")) or str(path)
        found.setdefault(
            uid, Series(path, str(header.get("ContainerIdentifier", "") or "").strip())
        )
    return list(found.values())


def name_series(series: Sequence[Series]) -> list[str]:
    """A slide id for each: its glass slide's name, as TCGA has it, else its folder's, else its file's.

    A name that two series would share gives way to the next.
    """
    names = [
        {"container": one.container, "folder": one.file.parent.name, "file": one.file.stem}
        for one in series
    ]
    chosen = []
    for name in names:
        usable = (
            name[kind]
            for kind in ("container", "folder")
            if _FILE_NAME.fullmatch(name[kind])
            and sum(other[kind] == name[kind] for other in names) == 1
        )
        chosen.append(next(usable, name["file"]))
    return chosen
