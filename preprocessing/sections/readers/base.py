"""Base of the section readers: what a layout declares, and what the user states about a source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.raw_section import SectionSource


@dataclass(frozen=True)
class SectionRequest:
    """What the user states about the sections of one folder or file.

    Attributes
    ----------
    section
        Name of the section, if there is one.
    patient
        Patient of the sections, if the source does not state it.
    image
        Full-resolution image, if the source does not hold it.
    """

    section: str | None = None
    patient: str | None = None
    image: Path | None = None


@dataclass(frozen=True)
class SectionReader:
    """A layout of sections.

    Attributes
    ----------
    name
        Name of the layout for ``--format``.
    contents
        What a source of this layout holds, in a few words for messages.
    is_layout
        Tells whether a folder or file is of this layout. It may raise InputError for a layout that
        is recognised but not supported.
    find
        Lists the sections of a folder or file. It may raise InputError; problems of a single
        section are raised when that section is read.
    """

    name: str
    contents: str
    is_layout: Callable[[Path], bool]
    find: Callable[[Path, SectionRequest], list[SectionSource]]


def existing_files(*paths: Path | None) -> tuple[Path, ...]:
    """Return the paths that are given, and raise InputError if one of them is no file."""
    given = tuple(path for path in paths if path is not None)
    for path in given:
        if not path.is_file():
            raise InputError("no such file", path=path, fix="check the path")
    return given
