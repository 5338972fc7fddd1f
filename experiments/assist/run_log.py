"""Read the log of a run folder, ``log.jsonl``, for what a run was asked to do and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tcgn_mil.experiments.command_line.log_files import RUN_LOG


@dataclass
class LoggedCommand:
    """A command that wrote to the log of a folder.

    Attributes
    ----------
    verb
        The verb.
    shard
        Value of ``--shard``, or an empty text.
    began, last
        Times of its first and last line.
    left, failed
        Number of items of each kind of work that were to do at the last line about it, and of those
        that had failed.
    told
        Time of the last line about each kind of work.
    exit_code
        Exit code; None if the command has not ended, or was killed.
    """

    verb: str
    shard: str
    began: datetime
    last: datetime
    left: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    told: dict[str, datetime] = field(default_factory=dict)
    exit_code: int | None = None


def read_commands(folder: Path) -> list[LoggedCommand]:
    """Return the latest command of each shard, or the latest command if it has no shard.

    A folder without a log gives none.
    """
    commands: dict[int, LoggedCommand] = {}  # by process
    every: list[LoggedCommand] = []
    for line in _lines(folder / RUN_LOG):
        process, time = int(line["process"]), datetime.fromisoformat(line["time"])
        if line["event"] == "start":
            shard = _value_of("--shard", line.get("arguments", ()))
            commands[process] = LoggedCommand(str(line.get("verb", "")), shard, time, time)
            every.append(commands[process])
        command = commands.get(process)
        if command is None:
            continue
        command.last = time
        if line["event"] == "progress" and line.get("total") is not None:
            work = str(line["work"])
            command.left[work] = int(line["total"]) - int(line["done"])
            command.failed[work] = int(line.get("failed", 0))
            command.told[work] = time
        if line["event"] == "end":
            command.exit_code = int(line["exit_code"])
    if not every:
        return []
    if not every[-1].shard:
        return [every[-1]]
    count = every[-1].shard.partition("/")[2]
    same = [each for each in every if each.shard.partition("/")[2] == count]
    return list({each.shard: each for each in same}.values())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:  # the last line of a run that was killed
                continue
            if isinstance(line, dict) and {"time", "process", "event"} <= line.keys():
                yield line


def _value_of(option: str, arguments: Sequence[str]) -> str:
    for index, each in enumerate(arguments):
        name, equals, value = each.partition("=")
        if name == option:
            return value if equals else "".join(arguments[index + 1 : index + 2])
    return ""
