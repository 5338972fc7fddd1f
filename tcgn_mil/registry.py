"""Add an entry to one of the registries by which the project is extended."""

from __future__ import annotations

from typing import TypeVar

from tcgn_mil.errors import InputError

Entry = TypeVar("Entry")


def add_entry(registry: dict[str, Entry], name: str, entry: Entry, *, what: str) -> None:
    """Add an entry under a new name; it is last, so that a loop in reverse order asks it first.

    Parameters
    ----------
    registry
        Name -> entry; changed in place.
    name
        Name of the entry.
    entry
        Object to register.
    what
        Kind of entry, for the message, such as ``slide format``.

    Raises
    ------
    InputError
        If the name is taken. To replace an entry, remove the old one first.

    Examples
    --------
    >>> poolings = {"mean": "the mean over tiles"}
    >>> add_entry(poolings, "max", "the maximum over tiles", what="pooling")
    >>> list(poolings)
    ['mean', 'max']
    """
    if name in registry:
        raise InputError(
            f"{what} {name!r} is registered already",
            fix="choose another name, or remove the old entry from the registry first",
        )
    registry[name] = entry
