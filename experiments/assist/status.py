"""Tell how far the work in a folder is: done, failed, left, rate and time to go.

What is done is counted in the folder itself, so that it is right for a run that was killed, and for
shares that run on many machines. How many items there are comes from the log that each command
keeps in its folder. The rate follows from the times at which the files of the present run were
written. Files are listed and not opened, so that a folder of 10,000 slides takes seconds.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.assist.run_log import LoggedCommand, read_commands
from tcgn_mil.experiments.runs.run_folder import finished_summary, run_kind
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.io.failures import read_failures
from tcgn_mil.progress import describe_duration, describe_rate

# A command writes a line at least every half minute while slides or epochs end.
_SILENT_S = 900.0
_FOLD_FILE = re.compile(r"fold\d+\.safetensors")
_FOLD_KINDS = ("finetune", "slide-cv", "spot-cv")


@dataclass(frozen=True)
class Status:
    """The state of the work in a folder.

    Attributes
    ----------
    folder
        The folder.
    verb
        Verb that writes it; empty if unknown.
    unit
        Noun of one item: slide, section or fold.
    state
        ``finished``, ``running``, ``stopped`` (no sign of life, or the last command failed) or
        ``unknown`` (a folder without a log).
    done, failed, left
        Number of items that are there, that failed, and that are still to do. `left` is None if
        nothing tells how many there are.
    per_second
        Items that the present run finishes in a second; None if it has finished fewer than two.
    to_go_s
        Seconds until the end at this rate; None if it is unknown.
    last_file_s
        Seconds since the last item was written; None if there is none.
    """

    folder: str
    verb: str
    unit: str
    state: str
    done: int
    failed: int
    left: int | None
    per_second: float | None
    to_go_s: float | None
    last_file_s: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        what = f"{self.folder}: {self.verb or 'files'}, {self.state}"
        parts = [f"{self.done} {self.unit}{'' if self.done == 1 else 's'} done"]
        if self.failed:
            parts.append(f"{self.failed} failed (failures.csv)")
        parts.append("number left unknown" if self.left is None else f"{self.left} left")
        if self.per_second:
            parts.append(describe_rate(self.per_second, self.unit))
        if self.to_go_s:
            parts.append(f"{describe_duration(self.to_go_s)} to go")
        if self.last_file_s is not None and self.state != "finished":
            parts.append(f"last one {describe_duration(self.last_file_s)} ago")
        return f"{what}: {', '.join(parts)}"


def folder_status(folder: str | Path) -> list[Status]:
    """Return how far the work in a folder is.

    Parameters
    ----------
    folder
        Folder that ``tile``, ``encode``, ``spots``, ``import-features``, ``predict``, ``finetune``,
        ``slide-cv`` or ``spot-cv`` writes.

    Returns
    -------
    One status; for ``predict`` with ``--slides`` also those of its tiles and features while these
    are there.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("no such folder", path=folder, fix="give the --out of a command")
    commands = read_commands(folder)
    verb = commands[-1].verb if commands else (run_kind(folder) or "")
    work = folder / "work"
    inside = [
        _of_files(work / name, stage, commands)
        for name, stage in (("tiles", "tile"), ("features", "encode"))
        if (work / name).is_dir()
    ]
    if verb in _FOLD_KINDS:
        return [_of_folds(folder, verb, commands)]
    if verb == "predict" or run_kind(folder) == "predict":
        return [*inside, _of_prediction(folder, commands)]
    return [*inside, _of_files(folder, verb, commands)]


def _of_files(folder: Path, verb: str, commands: list[LoggedCommand]) -> Status:
    """Return the status of a folder with one file per slide or section."""
    times = sorted(_times(folder))
    failed = len(read_failures(folder))
    if commands and all(each.exit_code is None for each in commands):
        # failures.csv is written at the end; until then the log counts those of this run.
        failed = max(failed, sum(each.failed.get(verb, 0) for each in commands))
    left = _left(times, verb, commands)
    unit = "section" if verb == "spots" else "slide"
    return _status(folder, verb, unit, times, failed, left, commands)


def _left(times: list[float], verb: str, commands: list[LoggedCommand]) -> int | None:
    """Return how many items are to do: those of the last lines, less the files written since.

    The total of a line is not enough, since some verbs count the items that are there already, and
    others count those alone that are to do.
    """
    if not commands or not _all_shards(commands) or any(verb not in each.left for each in commands):
        return None
    told = max(each.told[verb] for each in commands).timestamp()
    since = sum(time > told + 1 for time in times)  # times in the log are whole seconds
    return max(0, sum(each.left[verb] for each in commands) - since)


def _of_folds(folder: Path, verb: str, commands: list[LoggedCommand]) -> Status:
    """Return the status of a run that trains a model for each fold."""
    finished = [path for path in folder.glob("fold*.safetensors") if _FOLD_FILE.match(path.name)]
    of_folds = [sorted(each.glob("*.safetensors")) for each in folder.glob("fold_*")]
    finished += [files[-1] for files in of_folds if files]
    times = sorted(path.stat().st_mtime for path in finished)
    count = _number_of_folds(folder)
    left = None if count is None else max(0, count - len(times))
    return _status(folder, verb, "fold", times, 0, left, commands)


def _of_prediction(folder: Path, commands: list[LoggedCommand]) -> Status:
    summary = finished_summary(folder)
    done = int((summary or {}).get("slides") or 0)
    failed = len(read_failures(folder))
    return _status(folder, "predict", "slide", [], failed, 0 if summary else None, commands, done)


def _status(
    folder: Path,
    verb: str,
    unit: str,
    times: list[float],
    failed: int,
    left: int | None,
    commands: list[LoggedCommand],
    done: int | None = None,
) -> Status:
    now = time.time()
    began = min((each.began.timestamp() for each in commands), default=None)
    of_run = [each for each in times if began is None or each >= began - 1]
    rate = None
    if len(of_run) >= 2:
        start = of_run[0] if began is None else began
        rate = (len(of_run) - (began is None)) / max(of_run[-1] - start, 1e-9)
    state = _state(folder, commands, left)
    # The last item that is there is no sign that the run continues at its pace.
    running = state in ("running", "unknown") and rate and left
    return Status(
        str(folder),
        verb,
        unit,
        state,
        len(times) if done is None else done,
        failed,
        left,
        rate,
        left / rate if running and left and rate else None,
        now - times[-1] if times else None,
    )


def _state(folder: Path, commands: list[LoggedCommand], left: int | None) -> str:
    if finished_summary(folder) is not None:
        return "finished"
    if not commands:
        return "unknown"
    now = datetime.now(timezone.utc)
    waiting = [each for each in commands if each.exit_code is None]
    if any((now - each.last).total_seconds() < _SILENT_S for each in waiting):
        return "running"
    if waiting or any(each.exit_code not in (0, 1) for each in commands):
        return "stopped"
    return "stopped" if left else "finished"


def _all_shards(commands: list[LoggedCommand]) -> bool:
    """Return whether every share of the cohort has begun, so that their totals add up."""
    count = commands[-1].shard.partition("/")[2]
    return not count or len(commands) == int(count)


def _times(folder: Path) -> Iterator[float]:
    """Yield the time of writing of each result in a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".h5", ".h5ad")) and not entry.name.startswith("."):
                yield entry.stat().st_mtime


def _number_of_folds(folder: Path) -> int | None:
    path = folder / "folds.csv"
    if not path.is_file():
        return None
    table = read_own_csv(
        path,
        what="a table of folds",
        fix="run the command of this folder again",
        needs=("fold",),
        dtype=str,
    )
    return int(table["fold"].nunique())
