"""Turn whatever a library raises while it reads a file into one error that names the file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tcgn_mil.errors import InputError

Function = TypeVar("Function", bound=Callable[..., Any])
_LONGEST_REASON = 200


@contextmanager
def describe_damage(path: str | Path, *, what: str, fix: str) -> Iterator[None]:
    """Turn every error of the block into an `InputError` that names the file.

    The block has to read one file and nothing else. Libraries raise errors of more than twenty
    classes for damaged files, and a list of them is never complete; a block that does other work
    would hide mistakes of this package.

    Parameters
    ----------
    path
        The file.
    what
        Kind of file in the message, for example ``a tile file``.
    fix
        Advice for the user.

    Raises
    ------
    InputError
        If the block fails. An `InputError` of the block gets the path if it has none.

    Examples
    --------
    >>> with describe_damage("S1.h5", what="a tile file", fix="tile the slide again"):
    ...     {}["coords"]
    Traceback (most recent call last):
    tcgn_mil.errors.InputError: S1.h5: cannot be read as a tile file (KeyError: 'coords'). Fix: ...
    """
    try:
        yield
    except InputError as error:
        if error.path is not None:
            raise
        raise InputError(error.reason, path=path, fix=error.fix or fix) from error
    except Exception as error:
        said = " ".join(str(error).split())[:_LONGEST_REASON]
        if isinstance(error, MemoryError):
            said = "there is not enough memory"
        elif not isinstance(error, OSError):
            said = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise InputError(f"cannot be read as {what} ({said})", path=path, fix=fix) from error


def reads(what: str, *, fix: str) -> Callable[[Function], Function]:
    """Decorate a function that reads the file in its first argument and does nothing else.

    Parameters
    ----------
    what, fix
        As for :func:`describe_damage`, which surrounds every call.

    Examples
    --------
    >>> @reads("a number", fix="write a number into it")
    ... def read_number(path):
    ...     return float("x")
    >>> read_number("n.txt")
    Traceback (most recent call last):
    tcgn_mil.errors.InputError: n.txt: cannot be read as a number (ValueError: could not ...
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def reader(path: str | Path, *args: Any, **kwargs: Any) -> Any:
            with describe_damage(path, what=what, fix=fix):
                return function(path, *args, **kwargs)

        return reader  # type: ignore[return-value]

    return decorate
