"""Fetch many files at once; a file that cannot be had costs a row of failures.csv, not the run."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import requests

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure
from tcgn_mil.preprocessing.download.config import TransferConfig
from tcgn_mil.preprocessing.download.remote_file import RemoteFile
from tcgn_mil.preprocessing.download.session import open_session
from tcgn_mil.preprocessing.download.transfer import UnreachableError, fetch_file, part_of
from tcgn_mil.progress import Progress

STAGE = "download"
# After this many files in a row whose server did not answer, the others are not tried: with
# hundreds of files the waits between attempts would add up to hours.
MAX_UNREACHABLE = 8


class Fetched(NamedTuple):
    """Files by outcome.

    Attributes
    ----------
    fetched, kept
        Names of the files that were fetched, and of those that were there and right.
    failures
        Files that could not be had.
    """

    fetched: list[str]
    kept: list[str]
    failures: list[Failure]


class _StoppedError(Exception):
    """The run was interrupted while a file was on its way."""


def check_space(files: Sequence[RemoteFile], folder: Path) -> None:
    """Raise InputError if the disk has less room than the missing bytes need."""
    missing = sum(missing_bytes(file, folder) for file in files)
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if missing > free:
        raise InputError(
            f"the files need {in_bytes(missing)}, and the disk has {in_bytes(free)} left",
            path=folder,
            fix="give --out a folder on a larger disk, or fewer patients with --cases",
        )


def missing_bytes(file: RemoteFile, folder: Path) -> int:
    """Return how many bytes of a file are not there, judged by sizes alone; 0 if unknown."""
    path = folder / file.name
    if file.size is None or (path.is_file() and path.stat().st_size == file.size):
        return 0
    part = part_of(path, file)
    return max(0, file.size - (part.stat().st_size if part.exists() else 0))


def in_bytes(count: int) -> str:
    """Return a number of bytes with a decimal unit.

    Examples
    --------
    >>> in_bytes(999), in_bytes(1_500_000), in_bytes(412_300_000_000)
    ('999 B', '1.5 MB', '412.3 GB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"


def fetch_all(files: Sequence[RemoteFile], folder: Path, config: TransferConfig) -> Fetched:
    """Fetch files, several at once.

    Parameters
    ----------
    files
        Files of distinct names.
    folder
        Output folder. Files in it that are right are not fetched again.
    config
        Settings of the transport.

    Returns
    -------
    Fetched
        In the order of `files`.
    """
    outcomes: dict[str, bool | Failure] = {}
    total = sum(file.size or 0 for file in files)
    stop = threading.Event()
    lock = threading.Lock()
    with (
        open_session(config) as session,
        Progress(total=total, desc="download", unit="B", unit_scale=True) as bar,
    ):

        def advance(count: int) -> None:
            if stop.is_set():
                raise _StoppedError
            with lock:
                bar.update(count)

        def fetch(file: RemoteFile) -> bool:
            return fetch_file(session, file, folder, config, advance)

        _run(fetch, files, config.workers, stop, outcomes)
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, Failure)]
    return Fetched(
        [file.name for file in files if outcomes[file.name] is True],
        [file.name for file in files if outcomes[file.name] is False],
        sorted(failures, key=lambda failure: failure.slide),
    )


def _run(
    fetch: Callable[[RemoteFile], bool],
    files: Sequence[RemoteFile],
    workers: int,
    stop: threading.Event,
    outcomes: dict[str, bool | Failure],
) -> None:
    """Keep `workers` files on their way, until all have an outcome or the server is gone."""
    waiting = list(reversed(files))
    running: dict[Future[bool], RemoteFile] = {}
    unreachable = 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    file = waiting.pop()
                    running[pool.submit(fetch, file)] = file
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    file = running.pop(future)
                    outcomes[file.name], gone = _outcome(future, file)
                    unreachable = unreachable + 1 if gone else 0
                if unreachable >= MAX_UNREACHABLE:
                    outcomes |= {file.name: _not_tried(file) for file in waiting}
                    waiting.clear()
        except BaseException:
            # Ctrl-C: the threads stop at their next chunk, and their parts stay for the next run.
            stop.set()
            raise


def _outcome(future: Future[bool], file: RemoteFile) -> tuple[bool | Failure, bool]:
    try:
        return future.result(), False
    except (InputError, requests.RequestException) as error:
        reason = error.reason if isinstance(error, InputError) else str(error)
        fix = (error.fix if isinstance(error, InputError) else "") or ""
        return Failure(file.name, STAGE, reason, fix), isinstance(error, UnreachableError)


def _not_tried(file: RemoteFile) -> Failure:
    return Failure(
        file.name,
        STAGE,
        f"was not tried, because {MAX_UNREACHABLE} files before it got no answer",
        "check the network and run the command again",
    )
