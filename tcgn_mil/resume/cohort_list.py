"""Keep the list of a cohort beside its files, so that a slide that left it is noticed.

``cohort.json`` in an output folder names the slides (or sections) by the source that listed them: a
folder or a table of slides. A folder may be filled from several sources, such as one table for each
hospital. If a source is given again and no longer lists a slide, and no other source lists it, the
slide's files are set aside. Files that no source lists stay, and are named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.atomic import write_json
from tcgn_mil.resume.set_aside import FOLDER, set_aside
from tcgn_mil.text import content_hash, counted, preview

FILE_NAME = "cohort.json"


@dataclass(frozen=True)
class CohortUpdate:
    """A cohort's new list, before it is written.

    Attributes
    ----------
    folder
        Output folder.
    sources
        Rows of the new ``cohort.json``.
    left
        Slides that the same source listed before and that nobody lists now.
    others
        Slides with files in the folder that this source does not list, and that stay.
    """

    folder: Path
    sources: list[dict[str, Any]]
    left: list[str]
    others: list[str]

    def apply(self, files_of: Callable[[str], Sequence[Path]]) -> None:
        """Set aside the files of the slides that left, and write the list.

        The list is written last: if the run is killed before, the next one finds the same slides.

        Parameters
        ----------
        files_of
            Returns the files of a slide, the one that marks it as finished last.
        """
        set_aside(self.folder, [path for name in self.left for path in reversed(files_of(name))])
        write_json(self.folder / FILE_NAME, {"sources": self.sources})

    def sentences(self, unit: str = "slide") -> list[str]:
        """Return what a user should know: what was set aside, and what lies there beside."""
        told = []
        if self.left:
            are = "is" if len(self.left) == 1 else "are"
            told.append(
                f"{counted(len(self.left), unit)} {are} no longer listed, and the files were moved"
                f" to {self.folder / FOLDER}: {preview(self.left)}"
            )
        if self.others:
            stay = "stays" if len(self.others) == 1 else "stay"
            told.append(
                f"{counted(len(self.others), unit)} of other runs {stay} in {self.folder}, where"
                f" the next verb reads them too: {preview(self.others)}"
            )
        return told


def plan_cohort(
    folder: str | Path,
    source: str | Path,
    members: Sequence[str],
    *,
    ending: str = ".h5",
    choice: str = "",
) -> CohortUpdate:
    """Compare the slides that a source lists now with those that it listed before.

    Parameters
    ----------
    folder
        Output folder; it need not exist.
    source
        Folder, table or file that lists the slides.
    members
        Names of all slides of the source, also of those that another process works on.
    ending
        End of the name of a slide's file in the folder.
    choice
        Options that choose among the slides of the source. Each choice has a list of its own.

    Examples
    --------
    >>> folder = Path("tiles")
    >>> plan_cohort(folder, "slides.csv", ["S1", "S2"]).apply(lambda name: [folder / f"{name}.h5"])
    >>> plan_cohort(folder, "slides.csv", ["S1", "S3"]).left
    ['S2']
    """
    folder = Path(folder)
    keys = _keys(folder, Path(source), choice)
    same: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for row in _read(folder / FILE_NAME):
        (same if {*keys} & {*row["keys"]} else rows).append(row)
    before = [name for row in same for name in row["members"]]
    listed = {*members, *(name for row in rows for name in row["members"])}
    left = [name for name in before if name not in listed]
    files = sorted(folder.glob(f"[!.]*{ending}")) if folder.is_dir() else []
    there = [path.name[: -len(ending)] for path in files]
    own = {*members, *left}
    others = [name for name in there if name not in own]
    rows.append({"source": Path(source).name, "keys": keys, "members": sorted(members)})
    return CohortUpdate(folder, rows, left, others)


def _keys(folder: Path, source: Path, choice: str) -> list[str]:
    """Return two hashes of a source: of its place, and of its place as seen from the folder.

    A source is the same if either is, so that a project may be moved as a whole, and an output
    folder by itself.
    """
    place, base = source.resolve(), folder.resolve()
    seen = os.path.relpath(place, base) if place.anchor == base.anchor else str(place)
    return [content_hash([str(place), choice]), content_hash([seen, choice])]


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a list; none if there is no list, or if it is damaged.

    Without a list nothing is set aside, and what lies in the folder is named.
    """
    try:
        rows = read_json(path, what="the list of a cohort", fix="remove the file")["sources"]
        return [row for row in rows if {"keys", "members"} <= row.keys()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
