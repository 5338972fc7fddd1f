"""Keep what a command says: a log file for people, and a log of JSON lines in the run's folder."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

from tcgn_mil.errors import InputError
from tcgn_mil.progress import LOGGER
from tcgn_mil.version import __version__

RUN_LOG = "log.jsonl"
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class RunLog(logging.Handler):
    """Writes the start, the progress and the end of a command to ``<folder>/log.jsonl``.

    A command that is refused makes no folder. So nothing is written before the folder exists, and
    the lines until then are kept. Each line is appended by one call of the system, so that the
    shares of a run can write to one file.

    Parameters
    ----------
    folder
        Output folder of the command.
    verb
        The verb.
    arguments
        Command line without the name of the program.
    """

    def __init__(self, folder: Path, verb: str, arguments: list[str]) -> None:
        super().__init__(logging.INFO)
        self._path, self._waiting = folder / RUN_LOG, list[str]()
        self._began = time.monotonic()
        self.add("start", verb=verb, arguments=arguments, version=__version__)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of the logger of this package."""
        facts: dict[str, Any] = getattr(record, "facts", {})
        self.add("progress" if facts else "note", text=record.getMessage(), **facts)

    def add(self, event: str, **facts: Any) -> None:
        """Add a line.

        Parameters
        ----------
        event
            ``start``, ``progress``, ``note`` or ``end``.
        facts
            Further values of the line.
        """
        stamp = datetime.now(timezone.utc).isoformat(timespec="seconds")
        line = {"time": stamp, "process": os.getpid(), "event": event, **facts}
        self._waiting.append(json.dumps(line, default=str, ensure_ascii=False))
        if not self._path.parent.is_dir():
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(f"{text}\n" for text in self._waiting))
        except OSError:  # a log is no reason to lose a run
            return
        self._waiting.clear()

    def end(self, exit_code: int, error: str | None = None) -> None:
        """Write the last line, with the exit code and the seconds that the command took."""
        seconds = round(time.monotonic() - self._began, 1)
        self.add("end", exit_code=exit_code, seconds=seconds, error=error)


@contextmanager
def log_to_file(path: Path | None) -> Iterator[None]:
    """Append all lines that the command prints to a file, each with its time.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"the log file cannot be written ({error.strerror})",
            path=path,
            fix="give --log-file a path that can be written",
        ) from None
    handler.setFormatter(logging.Formatter(_FORMAT))
    printed = logging.Logger("printed", logging.INFO)  # of its own, so that nothing is logged twice
    printed.addHandler(handler)
    # Lines of this package come through the streams. Other packages log to the root, as do bars on
    # a terminal, which redraw one line there.
    handler.addFilter(_is_not_printed)
    root, level = logging.getLogger(), LOGGER.level
    root.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Copied(stream, printed) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        root.removeHandler(handler)
        LOGGER.setLevel(level)
        handler.close()


def _is_not_printed(record: logging.LogRecord) -> bool:
    return record.name != LOGGER.name or getattr(record, "on_terminal", False)


class _Copied:
    """A stream whose whole lines are also logged. Bars, which redraw a line, are left out."""

    def __init__(self, stream: TextIO, logger: logging.Logger) -> None:
        self._stream, self._logger, self._line = stream, logger, ""

    def write(self, text: str) -> int:
        self._line += text
        *whole, self._line = self._line.split("\n")
        for line in whole:
            if line.strip() and "\r" not in line:
                self._logger.info(line)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def logged_progress(handler: logging.Handler | None) -> Iterator[None]:
    """Give the progress lines and notes of this package to a handler."""
    if handler is None:
        yield
        return
    level = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)
