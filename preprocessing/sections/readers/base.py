"""Base of the section readers: the declaration of a layout, and the user's facts about a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.raw_section import SectionSource
from tcgn_mil.preprocessing.zarr_store import is_store
from tcgn_mil.text import preview

Found = TypeVar("Found")


@dataclass(frozen=True)
class SectionRequest:
    """Facts that the user states about the sections of one folder or file.

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
        Contents of a source of this layout, in a few words for messages.
    is_layout
        Returns whether a folder or file is of this layout. It may raise InputError for a layout
        that is recognised but not supported.
    find
        Lists the sections of a folder or file. It may raise InputError; problems of a single
        section are raised when that section is read.
    passed_over
        Returns the names of folders below a folder of sections that hold no section.
    """

    name: str
    contents: str
    is_layout: Callable[[Path], bool]
    find: Callable[[Path, SectionRequest], list[SectionSource]]
    passed_over: Callable[[Path], list[str]] = lambda source: []


def choose_sections(
    available: Mapping[str, Found], wanted: Sequence[str] | None, source: Path
) -> dict[str, Found]:
    """Return the wanted sections in the order given, or all if `wanted` is None.

    Raises
    ------
    InputError
        If the source does not have a wanted section.
    """
    missing = [name for name in wanted or () if name not in available]
    if missing:
        raise InputError(
            f"has no section {preview(missing)}",
            path=source,
            fix=f"choose from its sections {preview([*available], most=40)}",
        )
    return {name: available[name] for name in dict.fromkeys(wanted or available)}


def existing_files(*paths: Path | None) -> tuple[Path, ...]:
    """Return the paths that are given, and raise InputError if one of them does not exist.

    A Zarr store, which is a folder, is taken like a file.
    """
    given = tuple(path for path in paths if path is not None)
    for path in given:
        if not path.is_file() and not is_store(path):
            raise InputError("no such file", path=path, fix="check the path")
    return given
