"""The description of one figure of the gallery."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """A figure of the gallery.

    Attributes
    ----------
    name
        Name of its file, without suffix.
    title
        Heading.
    made_by
        Verb that draws it, and the file that it writes.
    text
        Sentences that say how to read it.
    draw
        Draws it into the PNG file that it is given.
    """

    name: str
    title: str
    made_by: str
    text: str
    draw: Callable[[Path], None]
