"""Remember what was read from the names in a folder, until the folder changes.

For each slide of a cohort its files are looked for in the same folder. To list a folder of 30,000
files takes 50 ms, and for 10,000 slides that would be many minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TypeVar

Read = TypeVar("Read")
# Some file systems keep the time of a change to two seconds only. A younger folder may change again
# without a sign, and is read anew.
_SETTLED_NS = 3 * 10**9
_MOST_FOLDERS = 64


def remembered(read: Callable[[Path], Read]) -> Callable[[Path], Read]:
    """Make a function that reads the names in a folder remember its result.

    Parameters
    ----------
    read
        Function of a folder. Its result must follow from the names in this folder alone, and nobody
        may change it.

    Returns
    -------
    The same function. A folder that was changed, or that was younger than three seconds when it was
    read, is read again.

    Examples
    --------
    >>> @remembered
    ... def names(folder):
    ...     return sorted(path.name for path in folder.iterdir())
    >>> Path("listed").mkdir()
    >>> names(Path("listed"))
    []
    >>> Path("listed", "new").touch()
    >>> names(Path("listed"))
    ['new']
    """
    results: dict[Path, tuple[tuple[int, ...], Read]] = {}

    @wraps(read)
    def reading(folder: Path) -> Read:
        try:
            facts = folder.stat()
        except OSError:
            return read(folder)
        # A relative path may stand for another folder later.
        state = (facts.st_dev, facts.st_ino, facts.st_mtime_ns)
        held = results.get(folder)
        if held is not None and held[0] == state:
            return held[1]
        result = read(folder)
        if time.time_ns() - facts.st_mtime_ns > _SETTLED_NS:
            if len(results) >= _MOST_FOLDERS:
                results.clear()
            results[folder] = (state, result)
        return result

    return reading
