"""State of a whole command: how much it prints, its logs, and its end as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tcgn_mil.experiments.command_line.log_files import RunLog, log_to_file, logged_progress
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.failures import FILE_NAME as FAILURES
from tcgn_mil.progress import without_progress
from tcgn_mil.types.processes import Processes

# Verbs whose output is a folder that they do not have to begin empty.
_WITH_RUN_LOG = (
    "spots",
    "pretrain",
    "spot-cv",
    "tile",
    "encode",
    "import-features",
    "finetune",
    "slide-cv",
    "predict",
    "explain",
    "associate",
    "survive",
)
_SUMMARY = "summary.json"
# A process of torchrun that is not the first waits before it ends with an error. When the first one
# ends with an error, torchrun ends this one meanwhile. So an error of all processes is printed
# once, and torchrun does not end the first one before it has printed it.
_BEFORE_REPORT_S = 5.0


@dataclass
class Session:
    """A command that runs.

    Of several processes of torchrun the first one alone prints and writes logs. Each of the others
    prints nothing but an error that the first one does not have.

    Attributes
    ----------
    arguments
        Command line without the name of the program.
    verb, out
        The verb and its ``--out``, once they are known.
    result
        What the verb returned; a dictionary is printed with ``--json``.
    quiet, verbose, as_json
        Whether ``--quiet``, ``--verbose`` and ``--json`` were given.
    log_file
        File of ``--log-file``.
    run_log
        Log of the folder that is written.
    """

    arguments: Sequence[str]
    verb: str = ""
    out: Path | None = None
    result: Any = None
    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    log_file: Path | None = None
    run_log: RunLog | None = None
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _began: float = field(default_factory=time.monotonic)
    _printed: io.StringIO | None = None

    def begin(self, verb: str, out: Path | None) -> None:
        """Note the verb and its output, and begin the log of its folder."""
        self.verb, self.out = verb, out
        if not Processes.launched().is_first:
            return
        if verb in _WITH_RUN_LOG and out is not None:
            self.run_log = RunLog(out, verb, list(self.arguments))
            self._stack.enter_context(logged_progress(self.run_log))

    def apply(self, *, quiet: bool, verbose: bool, as_json: bool, log_file: Path | None) -> None:
        """Apply the options of the whole command, until :meth:`end`.

        Raises
        ------
        InputError
            If the log file cannot be written.
        """
        self.quiet, self.verbose, self.as_json, self.log_file = quiet, verbose, as_json, log_file
        if not Processes.launched().is_first:
            self._stack.enter_context(_silence())
            return
        if quiet:
            self._stack.enter_context(without_progress())
        self._stack.enter_context(log_to_file(log_file))
        if not verbose:
            self._stack.enter_context(_without_foreign_warnings())
        if as_json:
            self._printed = io.StringIO()
            self._stack.enter_context(contextlib.redirect_stdout(self._printed))

    def end(self, exit_code: int, error: dict[str, str] | None = None) -> None:
        """Close the logs, and print the end as JSON if that was asked for.

        Parameters
        ----------
        exit_code
            Exit code of the command.
        error
            ``code`` and ``message`` of the error that ended it, if there was one.
        """
        process = Processes.launched()
        line = "" if error is None else f"error: {error['message']} [{error['code']}]\n"
        if not process.is_first:
            self._stack.close()
            if exit_code:
                time.sleep(_BEFORE_REPORT_S)
            if line:
                sys.stderr.write(f"process {process.rank} of torchrun: {line}")
            return
        sys.stderr.write(line)
        if self.run_log is not None:
            self.run_log.end(exit_code, None if error is None else error["message"])
        self._stack.close()
        if self._printed is not None:
            json.dump(self._as_json(exit_code, error), sys.stdout, ensure_ascii=False)
            sys.stdout.write("\n")

    def _as_json(self, exit_code: int, error: dict[str, str] | None) -> dict[str, Any]:
        assert self._printed is not None
        done: dict[str, Any] = {
            "verb": self.verb,
            "exit_code": exit_code,
            "seconds": round(time.monotonic() - self._began, 1),
            "out": None if self.out is None else str(self.out),
            "error": error,
        }
        if isinstance(self.result, dict):
            return {**done, "result": self.result}
        done["printed"] = self._printed.getvalue().splitlines()
        if self.out is not None and error is None:
            summary = self.out / _SUMMARY
            if summary.is_file():
                done["summary"] = read_json(
                    summary, what="the summary of a run", fix="run the command again"
                )
            failures = (self.out if self.out.is_dir() else self.out.parent) / FAILURES
            done["failures"] = str(failures) if failures.is_file() else None
        return done


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Print nothing during the block."""
    with (
        without_progress(),
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


@contextlib.contextmanager
def _without_foreign_warnings() -> Iterator[None]:
    """Hide warnings of other packages, which tell a user of this one nothing that helps.

    Filters that are set already win, so that ``python -W`` and tests see the warnings. Workers are
    new processes and read the environment.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    silent = logging.NullHandler()
    # With a handler, Python does not print records of packages that set up no logging.
    logging.getLogger().addHandler(silent)
    with warnings.catch_warnings():
        warnings.filterwarnings("default", module=r"tcgn_mil\.", append=True)
        warnings.filterwarnings("ignore", append=True)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(silent)
            if before is None:
                os.environ.pop("PYTHONWARNINGS", None)
