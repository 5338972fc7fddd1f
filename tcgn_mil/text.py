"""Small functions for names: hash them, find repeated ones, spell them alike, list them briefly."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any


def content_hash(value: Any) -> str:
    """Return a short hash of a value, to compare gene panels, tile specs and configs.

    Parameters
    ----------
    value
        Any value that can be written as JSON. The order of dictionary keys does not matter.

    Returns
    -------
    str
        The first 16 hexadecimal digits of the SHA-256 hash.

    Examples
    --------
    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def duplicates(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once.

    Parameters
    ----------
    names
        Any names.

    Returns
    -------
    list of str
        Each repeated name once, in the order of their second occurrence.

    Examples
    --------
    >>> duplicates(["A", "B", "C", "B", "A", "A"])
    ['B', 'A']
    """
    seen: set[str] = set()
    repeated: dict[str, None] = {}
    for name in names:
        if name in seen:
            repeated[name] = None
        seen.add(name)
    return list(repeated)


def preview(names: Sequence[str], *, most: int = 5) -> str:
    """Shorten a list of names for a message.

    Parameters
    ----------
    names
        The list.
    most
        Number of names to show.

    Returns
    -------
    str

    Examples
    --------
    >>> preview(["A", "B", "C", "D"], most=2)
    'A, B and 2 more'
    """
    shown = ", ".join(str(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def counted(count: int, what: str) -> str:
    """Return a number and a noun, in the plural unless the number is 1."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), in which two spellings of it are equal.

    A Mac writes ``ü`` in names of files as ``u`` and a combining mark, and a spreadsheet writes one
    character.

    Examples
    --------
    >>> composed("u\\u0308ber") == "\\u00fcber"
    True
    """
    return unicodedata.normalize("NFC", name)
