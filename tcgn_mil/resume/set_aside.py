"""Move files that are no longer current out of the way of the next verb, into ``set-aside``.

Nothing is deleted: a slide may be away because a disk is not mounted, and tiles and features are
costly to make. A file that turns out to be current later is moved back and used.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

FOLDER = "set-aside"
# The check of a slide mostly waits for the disk, and more so on a network drive.
_THREADS = 8


def set_aside(folder: str | Path, paths: Iterable[Path]) -> None:
    """Move files or folders of a folder into its ``set-aside``, where they replace older ones.

    Parameters
    ----------
    folder
        The folder.
    paths
        Files or folders directly in it. Others, and those that are not there, are passed over.
    """
    target = Path(folder) / FOLDER
    for path in paths:
        if path.parent != Path(folder) or not path.exists():
            continue
        target.mkdir(exist_ok=True)
        # Another process that works on a part of the same cohort may have moved it already.
        with contextlib.suppress(FileNotFoundError):
            _replace(path, target / path.name)


def _replace(path: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    path.replace(target)


def bring_back(folder: str | Path, paths: Sequence[Path]) -> None:
    """Move the files of an item from ``set-aside`` back, if all are there and it has none.

    The last one of `paths` is moved last. An item has files if that one is there; others are left
    from a run that was killed, and are replaced.
    """
    away = [Path(folder) / FOLDER / path.name for path in paths]
    if paths[-1].exists() or not all(path.exists() for path in away):
        return
    for path, source in zip(paths, away, strict=True):
        with contextlib.suppress(FileNotFoundError):
            source.replace(path)
    with contextlib.suppress(OSError):  # not empty, or not there
        (Path(folder) / FOLDER).rmdir()


class Checked(NamedTuple):
    """Items of a cohort by the state of their files.

    Attributes
    ----------
    current
        Items whose files are current and stay.
    changed
        Items that had files which are not current. They were set aside.
    """

    current: frozenset[str]
    changed: list[str]


def check_files(
    folder: str | Path,
    files: Mapping[str, Sequence[Path]],
    is_current: Callable[[str, Path], bool],
) -> Checked:
    """Set aside the files of all items that are no longer current, before any work begins.

    Whenever a run is killed afterwards, the folder holds current files only.

    Parameters
    ----------
    folder
        Output folder.
    files
        The files of each item. The last one is written last, and tells what it was made from.
    is_current
        Called with the name of an item and a path of its last file, in several threads. Any error
        counts as not current. If it concerns the input, the work itself will report it.
    """

    def check(name: str) -> bool | None:
        """Return whether files are current; None if there are none."""
        paths = files[name]
        away = [Path(folder) / FOLDER / path.name for path in paths]
        if not paths[-1].exists() and all(path.exists() for path in away):
            if not _holds(is_current, name, away[-1]):
                return None
            bring_back(folder, paths)
            return True
        if not paths[-1].exists():
            return None
        return _holds(is_current, name, paths[-1])

    pool = ThreadPoolExecutor(_THREADS)
    try:
        states = dict(zip(files, pool.map(check, files), strict=True))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the checks in work alone
    changed = [name for name, state in states.items() if state is False]
    set_aside(folder, [path for name in changed for path in reversed(files[name])])
    return Checked(frozenset(name for name, state in states.items() if state), changed)


def _holds(is_current: Callable[[str, Path], bool], name: str, path: Path) -> bool:
    try:
        return is_current(name, path)
    except Exception:  # whatever a damaged file does to a library concerns its own item only
        return False
