"""Reader of DICOM whole-slide images, whose slides are series of files.

Each file of a series holds one pyramid level. OpenSlide opens the whole series from any of its
files, so a slide is represented by the first file of its series.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tcgn_mil.extras import need_extra
from tcgn_mil.file_formats.folder_listing import remembered
from tcgn_mil.preprocessing.slides.readers.registry import SlideFile, SlideReader
from tcgn_mil.preprocessing.slides.readers.scanned import is_scanned, open_scanned

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

SUFFIXES = frozenset({".dcm"})
_FILE_NAME = re.compile(r"\w[\w .+-]*")
_TAGS = ["SeriesInstanceUID", "ContainerIdentifier"]


class Series(NamedTuple):
    """A DICOM series: its first file, and the id of its glass slide (empty if it has none)."""

    file: Path
    container: str


def is_dicom(path: Path) -> bool:
    """Return whether the file has the suffix of DICOM and OpenSlide recognises it."""
    return path.suffix.lower() in SUFFIXES and is_scanned(path)


def find_series(paths: Sequence[Path]) -> list[Series]:
    """Group DICOM files by series.

    A file that cannot be read becomes a series of its own, so that it fails later with a message
    about this file, and is not overlooked.

    Raises
    ------
    InputError
        If there are files and pydicom is not installed.
    """
    series: dict[str, Series] = {}
    for path in sorted(paths):
        header = _read_header(path)
        if header is None:
            series[str(path)] = Series(path, "")
            continue
        uid = str(header.get("SeriesInstanceUID", "")) or str(path)
        container = str(header.get("ContainerIdentifier", "") or "").strip()
        series.setdefault(uid, Series(path, container))
    return list(series.values())


def name_series(series: Sequence[Series]) -> list[str]:
    """Choose a slide id for each series.

    The id of the glass slide is preferred, because in TCGA it is the slide's barcode; then the name
    of the folder; then the name of the file. A name that two series share, or that cannot be a file
    name, is skipped.
    """
    names = [
        {"container": each.container, "folder": each.file.parent.name, "file": each.file.stem}
        for each in series
    ]
    counts = {kind: Counter(each[kind] for each in names) for kind in ("container", "folder")}
    chosen = []
    for name in names:
        usable = (
            name[kind]
            for kind in ("container", "folder")
            if _FILE_NAME.fullmatch(name[kind]) and counts[kind][name[kind]] == 1
        )
        chosen.append(next(usable, name["file"]))
    return chosen


def list_slides(paths: Sequence[Path]) -> list[SlideFile]:
    """List the slides that DICOM files belong to, each with its first file and its id."""
    series = find_series(paths)
    return [
        SlideFile(each.file, name) for each, name in zip(series, name_series(series), strict=True)
    ]


def list_files(path: Path) -> list[Path]:
    """Return the files of the series that a file belongs to; they lie in one folder."""
    beside = _series_in(path.parent)
    own = beside.get(path, "")
    return [path, *(each for each, uid in beside.items() if each != path and own and uid == own)]


@remembered
def _series_in(folder: Path) -> dict[Path, str]:
    """Return the id of the series of each DICOM file in a folder, sorted by path."""
    paths = sorted(each for each in folder.glob("*") if each.suffix.lower() in SUFFIXES)
    # The header of a file that lies alone decides nothing.
    return {path: _series_of(path) if len(paths) > 1 else "" for path in paths}


def _series_of(path: Path) -> str:
    """Return the id of a file's series; empty if the file cannot be read."""
    header = _read_header(path)
    return "" if header is None else str(header.get("SeriesInstanceUID", ""))


def _read_header(path: Path) -> FileDataset | None:
    """Read the tags that name a file's series and slide; None if the file cannot be read."""
    need_extra("pydicom", "finding the files of a DICOM slide", path=path)
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        return pydicom.dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError, EOFError):
        return None


READER = SlideReader("DICOM", SUFFIXES, is_dicom, open_scanned, list_slides, files=list_files)
