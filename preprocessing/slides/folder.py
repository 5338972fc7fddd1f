"""Search a folder for slides, and keep account of what is left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.folder_listing import remembered
from tcgn_mil.io.failures import LeftOut
from tcgn_mil.preprocessing.slides.readers import is_slide_folder, slide_suffixes
from tcgn_mil.preprocessing.zarr_store import SUFFIX
from tcgn_mil.text import composed

BELOW = "lies in a folder below, which --recursive takes too"
NOWHERE = "is a link that leads nowhere"
OTHER_KIND = "has the suffix of no slide format"
# `tcgn-mil tile` writes this file. The pictures beside it are no slides.
_OWN_FOLDER = "tile_summary.csv"
_WITH_COMPANIONS = ".mrxs"  # a MIRAX slide keeps its pixels in a folder of its own name


class FoundSlides(NamedTuple):
    """Files of slides in a folder.

    Attributes
    ----------
    paths
        Slides, sorted by path.
    left_out
        Other files, with the reason.
    """

    paths: list[Path]
    left_out: list[LeftOut]


def search_folder(folder: Path, *, recursive: bool = False) -> FoundSlides:
    """Find the slides of a folder.

    Parameters
    ----------
    folder
        The folder. Hidden files, and folders that `tcgn-mil tile` wrote, are passed over.
    recursive
        Take the slides of all folders below as well. They are also taken if the folder itself has
        no slide, as downloads of the GDC lie.

    Raises
    ------
    InputError
        If there is no slide.
    """
    suffixes = slide_suffixes()
    slides: list[Path] = []
    left_out: list[LeftOut] = []
    for path in _files(folder):
        name = str(path.relative_to(folder))
        if path.is_symlink() and not path.exists():
            left_out.append(LeftOut(name, NOWHERE))
        elif path.suffix.lower() not in suffixes:
            left_out.append(LeftOut(name, OTHER_KIND))
        elif stat.S_ISREG(path.stat().st_mode) or is_slide_folder(path):
            slides.append(path)
    top = [path for path in slides if path.parent == folder]
    if top and not recursive:
        # Files of other kinds are counted only where slides are looked for.
        left_out = [each for each in left_out if each.reason == NOWHERE or os.sep not in each.name]
        below = [path for path in slides if path.parent != folder]
        left_out += [LeftOut(str(path.relative_to(folder)), BELOW) for path in below]
        slides = top
    if not slides:
        raise InputError(
            "holds no slide" + _of_other_kinds(left_out),
            path=folder,
            fix=f"give a folder with files of these kinds: {' '.join(sorted(suffixes))}",
        )
    return FoundSlides(sorted(slides), left_out)


def existing_spelling(path: Path) -> Path:
    """Return the path of an existing file whose name differs in its Unicode form only.

    A table may write ``ü`` as one character where the file system has two. The path is returned as
    it is if it exists, or if there is no such file.
    """
    if path.exists() or path.is_symlink() or path == path.parent:
        return path
    folder = existing_spelling(path.parent)
    if not folder.is_dir():
        return path
    same = _spellings_in(folder).get(composed(path.name), [])
    return same[0] if len(same) == 1 else path


@remembered
def _spellings_in(folder: Path) -> dict[str, list[Path]]:
    """Return the files of a folder by the composed form of their names."""
    spellings: dict[str, list[Path]] = {}
    for file in folder.iterdir():
        spellings.setdefault(composed(file.name), []).append(file)
    return spellings


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and those below it; a folder is entered once, despite links."""
    entered: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in entered or (_OWN_FOLDER in names and Path(root) != folder):
            folders.clear()
            continue
        entered.add(real)
        companions = {Path(name).stem for name in names if name.lower().endswith(_WITH_COMPANIONS)}
        # A Zarr store is a folder of many files, and one slide.
        stores = [name for name in folders if name.lower().endswith(SUFFIX)]
        yield from (Path(root, name) for name in sorted(stores))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in companions and name not in stores
        )
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _of_other_kinds(left_out: list[LeftOut]) -> str:
    suffixes = sorted({Path(each.name).suffix for each in left_out if each.reason == OTHER_KIND})
    kinds = " ".join(suffix or "(no suffix)" for suffix in suffixes[:8])
    nowhere = sum(each.reason == NOWHERE for each in left_out)
    parts = [
        *([f"its files are of other kinds: {kinds}"] if kinds else []),
        *([f"{nowhere} links lead nowhere"] if nowhere else []),
    ]
    return f" ({'; '.join(parts)})" if parts else ""
