"""The one error a user can cause: it names where, why and the likely fix, in one line."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Bad input from outside: a file, a table, an option or a checkpoint.

    Parameters
    ----------
    reason
        What is wrong, with the offending column, slide or value.
    path
        The file (or folder) at fault, if there is one.
    fix
        What the user can most likely do about it.

    Notes
    -----
    The command line prints ``str(error)`` and exits with code 2; a cohort run writes ``reason``
    and ``fix`` into its ``failures.csv`` and goes on.
    """

    def __init__(
        self, reason: str, *, path: str | Path | None = None, fix: str | None = None
    ) -> None:
        self.reason = " ".join(reason.split())
        self.path = None if path is None else str(path)
        self.fix = None if fix is None else " ".join(fix.split())
        super().__init__(str(self))

    def __reduce__(self) -> tuple:
        return _rebuild, (self.reason, self.path, self.fix)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        fix = f" Fix: {self.fix}" if self.fix else ""
        return f"{where}{self.reason.rstrip('.')}.{fix}"


def _rebuild(reason: str, path: str | None, fix: str | None) -> InputError:
    """Rebuild an error that crossed a process boundary (multiprocessing needs positional arguments)."""
    return InputError(reason, path=path, fix=fix)
