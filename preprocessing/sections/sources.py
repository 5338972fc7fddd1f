"""Find the sections of a folder, of a file, or of a table that lists folders and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.tables.schema import read_table
from tcgn_mil.preprocessing.schemas import SECTIONS_TABLE, YES
from tcgn_mil.preprocessing.sections.raw_section import SectionSource, broken_source
from tcgn_mil.preprocessing.sections.readers import (
    READERS,
    detect_format,
    known_layouts,
    layout_names,
)
from tcgn_mil.preprocessing.sections.readers.base import SectionRequest, choose_sections
from tcgn_mil.text import duplicates, preview

AUTO = "auto"
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})


@reads("sections", fix="check the files, and copy them again")
def find_section_sources(
    source: str | Path,
    *,
    format: str = AUTO,
    sections: Sequence[str] | None = None,
    image: Path | None = None,
) -> list[SectionSource]:
    """Find the sections of a folder, a file or a table.

    Parameters
    ----------
    source
        Folder or file in one of the layouts, or a table with the columns path, section,
        patient_id, image, format, mpp, override_mpp and spot_pitch_um. All columns but path are
        optional.
    format
        A key of :data:`~tcgn_mil.preprocessing.sections.readers.READERS`, or ``auto`` to judge the
        layout by the contents.
    sections
        Names of the sections to return, in this order. None for all, in the order of the source.
    image
        Full-resolution image, for a source with one section.

    Returns
    -------
    list of SectionSource
        Sections that can be read. A section that was found to be broken is in the list as well, and
        raises its error when it is read.

    Raises
    ------
    InputError
        If the format is unknown, the source holds no section or lacks one asked for, two sections
        have one name, or one image is given for several sections.
    """
    source = Path(source)
    _check_format(format)
    if not source.exists():
        raise InputError(
            "no such folder or file",
            path=source,
            fix=f"give one of: {known_layouts()}, or a table with column path",
        )
    if source.is_file() and source.suffix.lower() in TABLE_SUFFIXES:
        available = _of_table(source, format, image)
    else:
        available = _of_path(source, format, SectionRequest(image=image))
    repeated = duplicates([section.section for section in available])
    if repeated:
        raise InputError(
            f"two sections are named {preview(repeated)}",
            path=source,
            fix="list the sections in a table and name them in its column section",
        )
    chosen = _choose(available, sections, source)
    if image is not None and len(chosen) > 1:
        raise InputError(
            f"one image for {len(chosen)} sections",
            path=source,
            fix="choose one section with --section, or list the sections in a table",
        )
    return chosen


def _check_format(format: str) -> None:
    if format not in layout_names():
        raise InputError(
            f"unknown format {format!r}", fix=f"choose one of {', '.join(layout_names())}"
        )


def _choose(
    available: list[SectionSource], wanted: Sequence[str] | None, source: Path
) -> list[SectionSource]:
    by_name = {section.section: section for section in available}
    others = {section.alias: section.section for section in available if section.alias}
    own = None if wanted is None else [others.get(name, name) for name in wanted]
    return list(choose_sections(by_name, own, source).values())


def passed_over(source: str | Path, format: str = AUTO) -> list[str]:
    """Return the folders of a folder of sections that hold no section in its layout."""
    source = Path(source)
    if not source.is_dir():
        return []
    layout = detect_format(source) if format == AUTO else format
    return READERS[layout].passed_over(source)


def _of_path(source: Path, format: str, request: SectionRequest) -> list[SectionSource]:
    """Return the sections of a folder or file; a single one gets the name of the request."""
    layout = detect_format(source) if format == AUTO else format
    available = READERS[layout].find(source, request)
    if request.section is None or len(available) == 1:
        return available
    return _choose(available, [request.section], source)


def _of_table(table: Path, format: str, image: Path | None) -> list[SectionSource]:
    if image is not None:
        raise InputError(
            "--image is given beside a table of sections",
            path=image,
            fix="put the image into the column image of the table",
        )
    return [
        section
        for number, row in read_table(table, SECTIONS_TABLE).iterrows()
        for section in _of_row(table, row, number, format)
    ]


def _of_row(table: Path, row: pd.Series, number: object, format: str) -> list[SectionSource]:
    """Return the sections of a row of the table; a broken row becomes a broken section.

    The other rows are still read, and the broken one is listed in failures.csv.
    """
    source = table.parent / row["path"]
    layout = row["format"] or format
    if layout not in layout_names():
        raise InputError(
            f"table of sections, column format, row {number}: {layout!r} is none of"
            f" {', '.join(layout_names())}",
            path=table,
            fix="choose one of them, or leave the cell empty",
        )
    request = SectionRequest(
        row["section"] or None,
        row["patient_id"] or None,
        table.parent / row["image"] if row["image"] else None,
    )
    try:
        if not source.exists():
            raise InputError("no such folder or file", path=source, fix="check the path")
        available = _of_path(source, layout, request)
    except Exception as error:  # one broken row must not end the others
        return [broken_source(row["section"] or source.stem, error)]
    stated: dict[str, float | bool] = {
        name: float(row[name]) for name in ("mpp", "spot_pitch_um") if row[name]
    }
    if row["override_mpp"].strip().lower() in YES:
        stated["override_mpp"] = True
    return [_with_settings(section, stated) for section in available] if stated else available


def _with_settings(source: SectionSource, stated: dict[str, float | bool]) -> SectionSource:
    """Return a source that is read with settings of its own in place of those of the call."""
    return replace(
        source,
        read=lambda settings: source.read(replace(settings, **stated)),  # type: ignore[arg-type]
        choices=(*source.choices, stated),
    )
