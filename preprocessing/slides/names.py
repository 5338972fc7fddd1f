"""Look up slides by name where no pixels are needed: their patients and their resolution.

A cohort whose features were made elsewhere has no slide files here. Its slides are then known from
a table of slides and patients, such as those of PORPOISE and SEQUOIA, or from their TCGA names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import column_names, read_text_columns
from tcgn_mil.io.tables.schema import check_table, read_table
from tcgn_mil.preprocessing.schemas import RESOLUTION, SLIDES_MANIFEST
from tcgn_mil.preprocessing.slides.readers import slide_suffixes, without_slide_suffix
from tcgn_mil.preprocessing.slides.table import SlideEntry, SlideSearch, search_slides
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of, site_of
from tcgn_mil.text import composed, preview
from tcgn_mil.types.tile_geometry import check_mpp

_MANIFEST_SUFFIXES = (".csv", ".tsv", ".txt")
_PACKED = ("", ".gz", ".zip")
_FACTS_TABLE = replace(SLIDES_MANIFEST, optional={"mpp": (RESOLUTION,)})
# Columns that hold slides and patients in published tables, in the order of preference.
SLIDE_COLUMNS = (
    "slide_id",
    "slide",
    "wsi_file_name",
    "source_barcode",
    "barcode",
    "filename",
    "file",
)
PATIENT_COLUMNS = ("patient_id", "case_id", "patient", "case_barcode", "bcr_patient_barcode")


class SlideFacts(NamedTuple):
    """Facts about a slide that its features do not hold.

    Attributes
    ----------
    patient_id
        Patient of the slide.
    mpp
        Micrometres per pixel of level 0, or None if unknown.
    """

    patient_id: str
    mpp: float | None = None


def list_slides(source: str | Path) -> list[SlideEntry]:
    """List slides and their patients, for a join that needs no pixels.

    The parameter and errors are those of :func:`search_listed_slides`, which also tells which files
    of a folder were left out.
    """
    return search_listed_slides(source).entries


def search_listed_slides(source: str | Path, *, recursive: bool = False) -> SlideSearch:
    """List slides and their patients, and tell which files of a folder are left out.

    Parameters
    ----------
    source
        Anything that :func:`~tcgn_mil.preprocessing.slides.table.search_slides` accepts; or a CSV
        or TSV table (also .gz or .zip) without a column `path`. Such a table has one of the columns
        :data:`SLIDE_COLUMNS`, and one of :data:`PATIENT_COLUMNS` unless the slides have TCGA names.
        Suffixes of slide files are removed from the names.
    recursive
        Take the slides in all folders below a folder, too.

    Returns
    -------
    SlideSearch
        In the table's order. Entries of a table without paths have the table as their `path`, and
        cannot be opened.

    Raises
    ------
    InputError
        As `search_slides`; or if such a table has no column of slides, names a slide twice, or
        leaves a slide without a patient.
    """
    source = Path(source)
    if not source.is_file():
        return search_slides(source, recursive=recursive)
    if not _is_table(source):
        if source.suffix.lower() not in slide_suffixes():
            raise InputError(
                "is neither a slide nor a CSV or TSV",
                path=source,
                fix="save the table as CSV UTF-8",
            )
        return search_slides(source)
    names = [name.lower() for name in column_names(source)]
    if "path" in names:
        return search_slides(source)
    return SlideSearch(_read_manifest(source, names), [])


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith(
        tuple(suffix + packed for suffix in _MANIFEST_SUFFIXES for packed in _PACKED)
    )


def _read_manifest(path: Path, names: list[str]) -> list[SlideEntry]:
    """Read a table of slides without paths; `names` are its column names in lower case."""
    slide = next((name for name in SLIDE_COLUMNS if name in names), None)
    if slide is None:
        raise InputError(
            f"names no slides: it has the columns {preview(names, most=6)}",
            path=path,
            fix=f"name the column of slides {SLIDE_COLUMNS[0]} (or one of"
            f" {', '.join(SLIDE_COLUMNS[1:])}), or give a column path",
        )
    patient = next((name for name in PATIENT_COLUMNS if name in names), slide)
    columns = {"slide_id": slide, "patient_id": patient}
    columns |= {name: name for name in ("site", "donor") if name in names}
    table = _select_columns(path, names, columns)
    check_table(table, SLIDES_MANIFEST, path=path)
    if patient == slide:
        _check_tcga_names(table["slide_id"], path, column_names(path)[names.index(slide)])
    cells = {name: table[name].tolist() for name in columns}
    blank = [""] * len(table)
    return [
        _entry(path, *row)
        for row in zip(
            cells["slide_id"],
            cells["patient_id"],
            cells.get("site", blank),
            cells.get("donor", blank),
            strict=True,
        )
    ]


def _select_columns(path: Path, names: list[str], columns: dict[str, str]) -> pd.DataFrame:
    """Read some columns of a table under new names (new -> old); two may be the same column."""
    positions = {new: names.index(old) for new, old in columns.items()}
    cells = read_text_columns(path, list(positions.values()))
    cells = cells.set_axis(range(cells.shape[1]), axis=1)
    order = sorted({*positions.values()})
    table = cells[[order.index(position) for position in positions.values()]]
    table = table.set_axis(list(positions), axis=1)
    table["slide_id"] = table["slide_id"].map(without_slide_suffix).map(composed)
    return table


def _check_tcga_names(slides: pd.Series, path: Path, column: str) -> None:
    unknown = [name for name in slides if parse_barcode(name) is None]
    if unknown:
        raise InputError(
            f"does not say whose slide {unknown[0]} is: the table has no column of patients, and"
            " the slide has no TCGA name",
            path=path,
            fix=f"add a column patient_id beside {column} (known names:"
            f" {', '.join(PATIENT_COLUMNS)})",
        )


def _entry(table: Path, slide: str, patient: str, site: str, donor: str) -> SlideEntry:
    patient = patient_of(patient)
    # Spreadsheets remove the leading zeros of a site's number. A TCGA name still has them, so the
    # site is then taken from the name later, and the column is not used.
    if site_of(patient) is not None:
        site = ""
    return SlideEntry(slide, patient, table, site=site or None, donor=donor or None)


def slide_facts(
    table: str | Path | None, *, mpp: float | None = None
) -> Callable[[str], SlideFacts]:
    """Make a function that looks up a slide's patient and resolution.

    Parameters
    ----------
    table
        CSV or TSV with columns `slide_id` (with or without the suffix of a slide file),
        `patient_id` and optionally `mpp`. Without a table the patient is that of a TCGA name, and
        any other slide is its own patient.
    mpp
        Micrometres per pixel of slides for which the table has none.

    Returns
    -------
    callable
        Slide id -> :class:`SlideFacts`. It raises InputError if the table lacks the slide.

    Raises
    ------
    InputError
        If the table is missing or invalid, or the resolution is implausible.

    Examples
    --------
    >>> look_up = slide_facts(None, mpp=0.25)
    >>> look_up("TCGA-AA-3506-01Z-00-DX1")
    SlideFacts(patient_id='TCGA-AA-3506', mpp=0.25)
    """
    if mpp is not None:
        check_mpp(mpp, what="--mpp")
    if table is None:
        return lambda slide: SlideFacts(patient_of(slide), mpp)
    facts = {
        composed(without_slide_suffix(row["slide_id"])): SlideFacts(
            patient_of(row["patient_id"]), float(row["mpp"]) if row["mpp"] else mpp
        )
        for row in read_table(table, _FACTS_TABLE).to_dict("records")
    }

    def look_up(slide: str) -> SlideFacts:
        slide = composed(slide)
        if slide not in facts:
            raise InputError(
                f"slide {slide} is not in {Path(table).name}",
                path=table,
                fix="add a row with its slide_id and patient_id",
            )
        return facts[slide]

    return look_up
