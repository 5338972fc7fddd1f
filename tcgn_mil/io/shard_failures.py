"""Record the failures of runs that share a folder, without one run losing the rows of another.

Each share (:class:`tcgn_mil.types.shards.Shard`) writes its rows to a file of its own,
``shards/failures-3-of-30.csv``, also if it has none. Then it writes ``failures.csv`` from the files
of all shares. Two runs may do so at once, and the one that writes last may have read before the
other had finished. So each looks again after it has written, and repeats if a share has finished
since. The last one therefore leaves the rows of all. No lock is needed, which not every network
disk has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.failures import Failure, failure_table, read_failure_file, write_failures
from tcgn_mil.types.shards import Shard

FOLDER = "shards"

Made = TypeVar("Made")


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
    own = Path(folder) / FOLDER
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
    own = Path(folder) / FOLDER
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
