"""Show the progress of long work: one bar on a terminal, and a line now and then in a log file.

A bar redraws itself with carriage returns, which make thousands of lines in a log. Where standard
error is no terminal, a line is written every half minute instead. It says how many items are done
and failed, how fast the work goes, and how long the rest will take. The same lines go to the logger
``tcgn_mil``, which ``tcgn-mil --log-file`` and the log of a run folder keep.

Work inside other work has no bar of its own, so that a terminal shows one line.

A notebook shows the bar as well. Its output is no terminal, but it redraws a line at a carriage
return. The bar is drawn as text, because the widgets of ``tqdm.auto`` need ipywidgets.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from tcgn_mil.progress.wording import progress_line

LOGGER = logging.getLogger("tcgn_mil")

_BETWEEN_LINES_S = 30.0
# Each drawing of the bar is a message to the browser, and is kept in an executed notebook.
_BETWEEN_DRAWINGS_S = 1.0

_DISABLE = "TQDM_DISABLE"
_hidden: list[bool] = []


class Progress(tqdm):
    """Progress over the items of a loop.

    It has the arguments of :class:`tqdm.tqdm`. ``desc`` names the work, and ``unit`` is the noun of
    one item. The environment variables of tqdm are respected; ``TQDM_DISABLE=1`` shows nothing.

    Attributes
    ----------
    failed
        Number of items that failed, to be counted by the loop.

    Examples
    --------
    >>> with Progress(total=2, desc="encode", unit="slide", disable=True) as bar:
    ...     bar.update()
    ...     bar.failed += 1
    """

    failed = 0

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        every: set[Progress] = set(self._instances)  # type: ignore[attr-defined]
        outer = [bar for bar in every - {self} if not getattr(bar, "disable", True)]
        if outer and all(bar.total == 1 for bar in outer) and not settings.get("disable"):
            # A bar over one item says nothing, so the work inside it is shown instead.
            for bar in outer:
                bar.leave = False
                bar.close()
            outer = []
        if outer:
            settings["disable"] = True
        stream = settings.get("file") or sys.stderr
        self._draws = _is_terminal(stream) or _is_notebook(stream)  # tqdm wraps the stream
        if _is_notebook(stream):
            settings.setdefault("mininterval", _BETWEEN_DRAWINGS_S)
        elif not self._draws:
            for name in ("mininterval", "maxinterval", "delay"):
                if f"TQDM_{name.upper()}" not in os.environ:
                    settings.setdefault(name, _BETWEEN_LINES_S)
        self._written: float | None = None  # number of items in the last line
        self._log_due = time.monotonic() + _BETWEEN_LINES_S
        super().__init__(*arguments, **settings)
        if not self.disable and self._written is None:  # no first line was drawn above
            self._log(on_terminal=False)

    @property
    def _in_log(self) -> bool:
        return bool(_hidden) or not self._draws

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Draw the bar, or write a line if standard error is no terminal."""
        if self._in_log:
            if msg is None:
                self._write_line()
            return
        if msg is None and time.monotonic() >= self._log_due:
            self._log(on_terminal=True)
        super().display(msg, pos)

    def close(self) -> None:
        """End the bar; in a log the last line says how the work ended if earlier lines stand."""
        if self.disable:
            return
        if self._written is not None and self._written != self.n:
            self._write_line()
        elif self._written is None:
            self._log(on_terminal=False)
        if not self._in_log:
            super().close()
            return
        self.disable = True
        self._decr_instances(self)  # type: ignore[attr-defined]

    def _write_line(self) -> None:
        self._written = self.n
        line = self._log(on_terminal=False)
        if not _hidden:
            self.fp.write(line + "\n")
            self.fp.flush()

    def _log(self, *, on_terminal: bool) -> str:
        """Log a line, and return it."""
        self._log_due = time.monotonic() + _BETWEEN_LINES_S
        facts = self.format_dict
        line = progress_line(
            str(facts["prefix"]).removesuffix(": "),
            done=int(facts["n"]),
            total=None if facts["total"] is None else int(facts["total"]),
            unit=str(facts["unit"]),
            failed=self.failed,
            elapsed_s=float(facts["elapsed"]),
            initial=int(facts["initial"]),
        )
        record = {"work": self.desc, "done": self.n, "total": self.total, "failed": self.failed}
        LOGGER.info(line, extra={"facts": record, "on_terminal": on_terminal})
        return line


def _is_terminal(stream: Any) -> bool:
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())


def _is_notebook(stream: Any) -> bool:
    """Return whether a stream is the output of a cell of a notebook."""
    return type(stream).__module__ == "ipykernel.iostream"


@contextmanager
def without_progress() -> Iterator[None]:
    """Show no progress in the block, nor in processes that it starts."""
    before = os.environ.get(_DISABLE)
    os.environ[_DISABLE] = "1"  # workers read it when they import tqdm
    _hidden.append(True)
    try:
        yield
    finally:
        _hidden.pop()
        if before is None:
            del os.environ[_DISABLE]
        else:
            os.environ[_DISABLE] = before


def tell(text: str) -> None:
    """Write a note for the user to standard error, above a bar if one is drawn."""
    Progress.write(text, file=sys.stderr)
    LOGGER.info(text)
