"""Show the progress of long work: one bar on a terminal, and a line now and then in a log file.

A bar redraws itself with carriage returns, which make thousands of lines in a log. Where standard
error is no terminal, a line is written every half minute instead. It says how many items are done
and failed, how fast the work goes, and how long the rest will take. The same lines go to the logger
``tcgn_mil``, which ``tcgn-mil --log-file`` and the log of a run folder keep.

Work inside other work has no bar of its own, so that a terminal shows one line.
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

LOGGER = logging.getLogger("tcgn_mil")

_BETWEEN_LINES_S = 30.0
_BYTES = ("B", "kB", "MB", "GB", "TB")
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0


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
        outer = [
            bar for bar in self._instances if bar is not self and not getattr(bar, "disable", True)
        ]
        if outer and all(bar.total == 1 for bar in outer) and not settings.get("disable"):
            # A bar over one item says nothing, so the work inside it is shown instead.
            for bar in outer:
                bar.leave = False
                bar.close()
            outer = []
        if outer:
            settings["disable"] = True
        self._written: int | None = None  # number of items in the last line
        self._log_due = time.monotonic() + _BETWEEN_LINES_S
        super().__init__(*arguments, **settings)
        if not self.disable and self._written is None:  # no first line was drawn above
            self._log(on_terminal=False)

    @property
    def _in_log(self) -> bool:
        isatty = getattr(self.fp, "isatty", None)
        return bool(_hidden) or isatty is None or not isatty()

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, or write a line if standard error is no terminal."""
        if self._in_log:
            if msg is None:
                self._write_line()
            return True
        if msg is None and time.monotonic() >= self._log_due:
            self._log(on_terminal=True)
        return bool(super().display(msg, pos))

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
        self._decr_instances(self)

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


def progress_line(
    what: str,
    *,
    done: int,
    total: int | None,
    unit: str,
    elapsed_s: float,
    failed: int = 0,
    initial: int = 0,
) -> str:
    """Describe how far some work is.

    Parameters
    ----------
    what
        Name of the work.
    done, total
        Number of items that are done, failed ones included, and of all; None if that is unknown.
    unit
        Noun of one item; ``B`` stands for bytes.
    elapsed_s
        Seconds since the work began.
    failed
        Number of items that failed.
    initial
        Number of items that were done before.

    Examples
    --------
    >>> progress_line("encode", done=30, total=120, unit="slide", elapsed_s=600, failed=2)
    'encode: 30 of 120 slides, 2 failed, 3.0 slides a minute, 30 min to go'
    >>> progress_line("download", done=2_000_000, total=None, unit="B", elapsed_s=1)
    'download: 2.0 MB, 2.0 MB a second'
    """
    rate = (done - initial) / elapsed_s if elapsed_s > 0 else 0.0
    if unit == "B":
        amount = _bytes(done) if total is None else f"{_bytes(done)} of {_bytes(total)}"
        parts = [amount, f"{_bytes(rate)} a second"]
    else:
        noun = unit if (done if total is None else total) == 1 else plural(unit)
        amount = f"{done} {noun}" if total is None else f"{done} of {total} {noun}"
        parts = [amount]
        if failed:
            parts.append(f"{failed} failed")
        if rate > 0:
            parts.append(describe_rate(rate, unit))
    if total is not None and rate > 0 and total > done:
        parts.append(f"{describe_duration((total - done) / rate)} to go")
    return f"{what or 'work'}: {', '.join(parts)}"


def describe_rate(per_second: float, unit: str) -> str:
    """Return a rate in the unit of time that gives a readable number.

    Examples
    --------
    >>> describe_rate(0.01, "slide")
    '36.0 slides an hour'
    """
    for seconds, name in ((1.0, "a second"), (_MINUTE_S, "a minute"), (_HOUR_S, "an hour")):
        if per_second * seconds >= 1 or name == "an hour":
            break
    return f"{per_second * seconds:.1f} {plural(unit)} {name}"


def plural(noun: str) -> str:
    """Return the plural of the name of an item.

    Examples
    --------
    >>> plural("slide"), plural("batch")
    ('slides', 'batches')
    """
    return f"{noun}es" if noun.endswith(("ch", "s")) else f"{noun}s"


def describe_duration(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> [describe_duration(seconds) for seconds in (45, 600, 9000, 200_000)]
    ['45 s', '10 min', '2.5 h', '2.3 days']
    """
    if seconds < 1.5 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < 2 * _DAY_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _DAY_S:.1f} days"


def _bytes(count: float) -> str:
    power = 0
    while count >= 1000 and power < len(_BYTES) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {_BYTES[power]}"
