"""Write failures.csv, which lists what could not be processed, and left_out.csv.

A failure is an item that was worked on in vain. What is left out was never worked on, for example a
file of another kind in a folder of slides.

Runs that share a folder (:class:`tcgn_mil.types.shards.Shard`) do not lose one another's rows. Each
writes its rows to a file of its own, ``shards/failures-3-of-30.csv``, also if it has none. Then it
writes ``failures.csv`` from the files of all shares. Two runs may do so at once, and the one that
writes last may have read before the other had finished. So each looks again after it has written,
and repeats if a share has finished since. The last one therefore leaves the rows of all. No lock is
needed, which not every network disk has.
"""

from __future__ import annotations

import errno
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.text import preview
from tcgn_mil.types.shards import Shard

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "failures.csv"
LEFT_OUT_NAME = "left_out.csv"
SHARDS_FOLDER = "shards"
_EXAMPLES = 3  # names of each reason in a message
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FULL_FIX = "free some space and run the command again; what is finished is kept"

Made = TypeVar("Made")


@dataclass(frozen=True)
class Failure:
    """One row of failures.csv.

    Attributes
    ----------
    slide
        Name of the slide.
    stage
        Step that failed, for example ``tile`` or ``encode``.
    reason
        Description of the problem.
    likely_fix
        Suggestion for the user; may be empty.
    """

    slide: str
    stage: str
    reason: str
    likely_fix: str = ""


def read_failures(folder: str | Path) -> list[Failure]:
    """Read the rows of failures.csv; there are none if the folder has no such file."""
    path = Path(folder) / FILE_NAME
    return read_failure_file(path) if path.is_file() else []


def read_failure_file(path: str | Path) -> list[Failure]:
    """Read the rows of a file that has the form of failures.csv."""
    columns = [column.name for column in fields(Failure)]
    table = read_own_csv(
        path,
        what="a list of failures",
        fix="remove the file",
        needs=columns,
        dtype=str,
        keep_default_na=False,
    )
    return [Failure(*row) for row in table[columns].itertuples(index=False)]


def write_failures(folder: str | Path, failures: Sequence[Failure]) -> None:
    """Write failures.csv, or remove an older one if nothing failed.

    Parameters
    ----------
    folder
        Output folder of the run.
    failures
        The rows.
    """
    path = Path(folder) / FILE_NAME
    if not failures:
        path.unlink(missing_ok=True)
        return
    write_csv(path, failure_table(failures))


def failure_table(failures: Sequence[Failure]) -> pd.DataFrame:
    """Return failures as a table with the columns of failures.csv."""
    import pandas as pd

    columns = [column.name for column in fields(Failure)]
    return pd.DataFrame([astuple(failure) for failure in failures], columns=columns)


def unexpected(error: Exception, slide: str, stage: str) -> Failure:
    """Describe an error that no reader foresaw, so that one item costs a row and not the run.

    Parameters
    ----------
    error
        The error. An InputError gives its own reason and fix.
    slide
        Name of the item.
    stage
        Step that failed.

    Examples
    --------
    >>> unexpected(ZeroDivisionError("division by zero"), "S1", "tile").reason
    'stopped on an error that was not foreseen: ZeroDivisionError: division by zero'
    """
    if isinstance(error, InputError):
        return Failure(slide, stage, error.reason, error.fix or "")
    if isinstance(error, OSError) and error.errno in _FULL:
        return Failure(slide, stage, f"could not be written: {error.strerror}", _FULL_FIX)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in place)
    said = " ".join(str(error).split())[:200]
    return Failure(
        slide,
        stage,
        f"stopped on an error that was not foreseen: {type(error).__name__}: {said}{where}",
        "check that other tools open this file and copy it again; if they do, report this line",
    )


@dataclass(frozen=True)
class LeftOut:
    """One row of left_out.csv.

    Attributes
    ----------
    name
        Name of the file, slide, row or gene that was left out.
    reason
        End of a sentence that begins with the name.
    """

    name: str
    reason: str


def describe_left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """Count what was left out by reason, with a few names of each.

    Examples
    --------
    >>> describe_left_out([LeftOut("a.txt", "is no slide"), LeftOut("b.txt", "is no slide")])
    ['2 left out: a.txt, b.txt (is no slide)']
    """
    by_reason: dict[str, list[str]] = {}
    for each in left_out:
        by_reason.setdefault(each.reason, []).append(each.name)
    return [
        f"{len(names)} left out: {preview(names, most=_EXAMPLES)} ({reason})"
        for reason, names in by_reason.items()
    ]


def count_left_out(left_out: Sequence[LeftOut]) -> dict[str, int]:
    """Return the number of those left out by reason.

    Examples
    --------
    >>> count_left_out([LeftOut("a.txt", "is no slide"), LeftOut("b.txt", "is no slide")])
    {'is no slide': 2}
    """
    return dict(Counter(each.reason for each in left_out))


def write_left_out(folder: str | Path, left_out: Sequence[LeftOut]) -> None:
    """Write left_out.csv, or remove an older one if nothing was left out."""
    import pandas as pd

    path = Path(folder) / LEFT_OUT_NAME
    if not left_out:
        path.unlink(missing_ok=True)
        return
    columns = [column.name for column in fields(LeftOut)]
    write_csv(path, pd.DataFrame([astuple(each) for each in left_out], columns=columns))


def record_failures(
    folder: str | Path, failures: Sequence[Failure], shard: Shard | None = None
) -> list[Failure]:
    """Write failures.csv for a run, or for the shares of a run together.

    Parameters
    ----------
    folder
        Output folder.
    failures
        Rows of this run.
    shard
        Share of this run; None if it worked on the whole cohort. Rows of earlier shares are then
        replaced.

    Returns
    -------
    The rows of failures.csv.
    """
    own = Path(folder) / SHARDS_FOLDER
    if shard is None:
        for path in own.glob("failures-*.csv"):
            path.unlink(missing_ok=True)
        write_failures(folder, failures)
        return list(failures)
    for path in set(own.glob("failures-*.csv")) - set(own.glob(f"failures-*-of-{shard.count}.csv")):
        path.unlink(missing_ok=True)  # of a run with another number of shares
    write_csv(own / _name(shard), failure_table(failures))

    def merge() -> list[Failure]:
        rows = [row for path in _finished(own, shard) for row in read_failure_file(path)]
        rows.sort(key=lambda row: row.slide)
        write_failures(folder, rows)
        return rows

    return until_settled(folder, shard, merge)


def until_settled(folder: str | Path, shard: Shard | None, make: Callable[[], Made]) -> Made:
    """Make something of the files of all shares, again until no share has finished meanwhile.

    Parameters
    ----------
    folder
        Output folder.
    shard
        Share of this run; with None it is made once.
    make
        Reads the folder and writes a file.
    """
    if shard is None:
        return make()
    own = Path(folder) / SHARDS_FOLDER
    while True:
        before = _state(own, shard)
        made = make()
        if _state(own, shard) == before:
            return made


def _name(shard: Shard) -> str:
    return f"failures-{shard.number}-of-{shard.count}.csv"


def _finished(own: Path, shard: Shard) -> list[Path]:
    every = (Shard(number, shard.count) for number in range(1, shard.count + 1))
    return [path for one in every if (path := own / _name(one)).is_file()]


def _state(own: Path, shard: Shard) -> list[tuple[str, int, int]]:
    """Return what changes when a share finishes, since its file is replaced as a whole."""
    stats = [(path.name, path.stat()) for path in _finished(own, shard)]
    return [(name, stat.st_ino, stat.st_mtime_ns) for name, stat in stats]
