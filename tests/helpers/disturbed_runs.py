"""Run verbs in forked processes that are killed, or whose disk is full, read-only or gone."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from changing_slides import ask
from verb_cases import Inputs, VerbCase

from tcgn_mil.experiments import main as cli
from tcgn_mil.io import atomic
from tcgn_mil.resume.set_aside import FOLDER

Disturbance = Callable[[], None]
_CALLS = ("replace", "rename", "link")
_CAPABILITIES = 0x20080522  # third version of Linux's structure
# The only files that may differ between two runs, because they hold times: logs of TensorBoard, and
# the log of the commands that wrote to a folder.
_STATE_TIMES = ("events.out.tfevents.", "log.jsonl")


@dataclass(frozen=True)
class Ended:
    """How a run ended: exit code, or minus the signal; and what it wrote to standard error."""

    code: int
    err: str

    def problem(self, *codes: int) -> str:
        """Return what is wrong with the end; empty if it has one of the codes, and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        if "Traceback" in self.err:
            return "traceback: " + self.err.strip().splitlines()[-1]
        if "Exception ignored" in self.err:
            return "an error of a library was printed: " + self.err.strip().splitlines()[-1]
        if self.code not in codes:
            return f"exit code {self.code}: {self.err.strip()[-300:]}"
        if self.code == 2 and len(lines) != 1:
            return f"{len(lines)} lines of error"
        return ""


class DisturbedVerb:
    """A verb whose run is disturbed, and repeated, and compared with one that was not.

    Parameters
    ----------
    case
        The verb.
    inputs
        Where its inputs are made.
    folder
        Folder to work in, which may be emptied.
    """

    def __init__(self, case: VerbCase, inputs: Inputs, folder: Path) -> None:
        self.case, self.folder, self.work = case, folder, folder / "work"
        self.arguments = [*map(str, case.arguments(inputs)), "--out", str(self.work / case.out)]
        self.clear()
        # In this process, so that a forked one has all modules and starts at once.
        answer = ask(*self.arguments)
        assert answer.code == 0, answer.err
        self.expected = self.files()

    def clear(self) -> None:
        """Empty the folder of outputs."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)

    def files(self) -> dict[str, bytes]:
        """Return the content of all files that were written, by their path."""
        paths = sorted(path for path in self.work.rglob("*") if path.is_file())
        return {str(path.relative_to(self.work)): path.read_bytes() for path in paths}

    def run(self, disturb: Disturbance = lambda: None) -> Ended:
        """Run the verb in a forked process, in which `disturb` is called before it begins."""
        sys.stdout.flush()
        sys.stderr.flush()
        # A pipe, because a limit of the size of files holds for a file of messages as well.
        read, write = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                self._run_here(disturb, write)
            finally:
                os._exit(1)  # whatever happens, the child does not go on as the parent
        os.close(write)
        with os.fdopen(read, errors="replace") as file:
            err = file.read()
        return Ended(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), err)

    def _run_here(self, disturb: Disturbance, written: int) -> None:
        """Run the verb in this process, which ends with it."""
        code = 1
        os.dup2(written, 2)
        os.close(written)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = ["tcgn-mil", *self.arguments]
        atomic.remove_leftovers.cache_clear()  # this is another process for the folder
        try:
            disturb()
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)

    def differences(self) -> list[str]:
        """Return the paths of files that are not those of the undisturbed run.

        Results that were set aside are passed over, as is the note that says so in a summary.
        """
        found = self.files()
        return [
            name
            for name in sorted(found.keys() | self.expected.keys())
            if _without_notes(name, found) != _without_notes(name, self.expected)
            and not Path(name).name.startswith(_STATE_TIMES)
            and FOLDER not in Path(name).parts
        ]

    def count_renames(self) -> int:
        """Return how many files the verb renames or links."""
        self.clear()
        counter = self.folder / "count.txt"

        def count() -> None:
            before_renames(lambda number: counter.write_text(str(number)))

        ended = self.run(count)
        assert ended.code == 0, ended.err
        return int(counter.read_text())


def _without_notes(name: str, files: dict[str, bytes]) -> object:
    if name not in files or Path(name).name != "summary.json":
        return files.get(name)
    content = json.loads(files[name])
    noted = [note for note in content.get("notes", ()) if FOLDER not in note]
    return content | {"notes": noted}


def before_renames(action: Callable[[int], Any]) -> None:
    """Call `action` with 1, 2, ... before each time that this process renames or links a file."""
    number = 0

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*arguments: Any, **options: Any) -> Any:
            nonlocal number
            number += 1
            action(number)
            return original(*arguments, **options)

        return replacement

    for name in _CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def kill_at_rename(number: int) -> Disturbance:
    """Kill the process before it renames or links its file of that number, counted from 1."""

    def kill(current: int) -> None:
        if current == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return lambda: before_renames(kill)


def kill_after(seconds: float) -> Disturbance:
    """Kill the process after a time, wherever it is; the signal does not reach Python."""

    def disturb() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    return disturb


def limit_files(size: int) -> Disturbance:
    """Let no file of the process become larger than a number of bytes."""

    def disturb() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return disturb


def remove_at_rename(folder: Path, number: int) -> Disturbance:
    """Remove a folder before the process renames or links its file of that number."""

    def remove(current: int) -> None:
        if current == number:
            shutil.rmtree(folder)

    return lambda: before_renames(remove)


def obey_permissions() -> None:
    """Give up the right of root to write anywhere, in this process."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)())
