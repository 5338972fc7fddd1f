"""Define the error that is raised for wrong input of a user."""

from __future__ import annotations

from pathlib import Path


class InputError(ValueError):
    """Wrong input: a file, a table, an option, a config key or a checkpoint.

    The command line prints ``str(error)`` and exits with code 2. A run over many slides writes
    ``reason`` and ``fix`` into its failures.csv and continues with the next slide.

    Parameters
    ----------
    reason
        Description of the problem, with the column, slide or value.
    path
        The file or folder that has the problem, if there is one.
    fix
        One thing that the user can do.

    Examples
    --------
    >>> print(InputError("has no column id", path="folds.csv", fix="add the column"))
    folds.csv: has no column id. Fix: add the column
    """

    def __init__(
        self, reason: str, *, path: str | Path | None = None, fix: str | None = None
    ) -> None:
        self.reason = " ".join(reason.split())
        self.path = None if path is None else str(path)
        self.fix = None if fix is None else " ".join(fix.split())
        super().__init__(str(self))

    def __reduce__(self) -> tuple:
        # An error in a worker process is pickled. By default, pickle would call the class with one
        # positional argument, the whole message.
        return _rebuild, (self.reason, self.path, self.fix)

    def __str__(self) -> str:
        file = f"{self.path}: " if self.path else ""
        fix = f" Fix: {self.fix}" if self.fix else ""
        text = f"{file}{self.reason.rstrip('.')}.{fix}"
        # Names in files may hold line breaks, and sequences that command a terminal.
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _rebuild(reason: str, path: str | None, fix: str | None) -> InputError:
    return InputError(reason, path=path, fix=fix)
