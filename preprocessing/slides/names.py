"""Slides named for a join, which needs no pixels: files as for tiling, or a table of slides and patients without paths.

So a cohort whose features come from elsewhere joins by its manifest alone: PORPOISE's tables, SEQUOIA's reference file,
a table of slide features.

Whose slides are known by name alone, and their resolution: from a table, or by TCGA names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.delimited import column_names, read_text_columns
from tcgn_mil.io.tables.schema import check_table, read_table
from tcgn_mil.preprocessing.schemas import RESOLUTION, SLIDES_MANIFEST
from tcgn_mil.preprocessing.slides.table import SLIDE_SUFFIXES, SlideEntry, find_slides
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of
from tcgn_mil.text import preview
from tcgn_mil.types.tile_geometry import check_mpp

_SUFFIXES = (".csv", ".tsv", ".txt")
_PACKED = ("", ".gz", ".zip")
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


def list_slides(source: str | Path) -> list[SlideEntry]:
    """Slides and their patients.

    Parameters
    ----------
    source
        What :func:`~tcgn_mil.preprocessing.slides.table.find_slides` takes; or a CSV or TSV (also .gz, .zip) without a
        column path, but with one of :data:`SLIDE_COLUMNS`, and of :data:`PATIENT_COLUMNS` unless the slides have TCGA
        names. Known suffixes of slide files are taken off.

    Returns
    -------
    Entries in the table's order; without paths their ``path`` is the table's, and they cannot be opened.

    Raises
    ------
    InputError
        As ``find_slides``; or if such a table names no slides, repeats one, or leaves one without a patient.
    """
    source = Path(source)
    if not source.is_file():
        return find_slides(source)
    if not _is_table(source):
        if source.suffix.lower() not in SLIDE_SUFFIXES:
            raise InputError(
                "is neither a slide nor a CSV or TSV",
                path=source,
                fix="save the table as CSV UTF-8",
            )
        return find_slides(source)
    names = [name.lower() for name in column_names(source)]
    if "path" in names:
        return find_slides(source)
    return _read_manifest(source, names)


def _is_table(path: Path) -> bool:
    return path.name.lower().endswith(
        tuple(suffix + packed for suffix in _SUFFIXES for packed in _PACKED)
    )


def _read_manifest(path: Path, names: list[str]) -> list[SlideEntry]:
    slide = next((name for name in SLIDE_COLUMNS if name in names), None)
    if slide is None:
        raise InputError(
            f"names no slides: it has {preview(names, most=6)}",
            path=path,
            fix=f"name the column of slides {SLIDE_COLUMNS[0]} (known: {', '.join(SLIDE_COLUMNS)}), or give a column"
            " path",
        )
    patient = next((name for name in PATIENT_COLUMNS if name in names), slide)
    wanted = {"slide_id": slide, "patient_id": patient}
    others = [name for name in ("site", "donor") if name in names]
    positions = {new: names.index(old) for new, old in wanted.items()} | {
        name: names.index(name) for name in others
    }
    cells = read_text_columns(path, list(positions.values()))
    header = column_names(path)
    table = cells.set_axis(range(cells.shape[1]), axis=1)
    order = sorted({*positions.values()})
    table = table[[order.index(position) for position in positions.values()]].set_axis(
        list(positions), axis=1
    )
    table["slide_id"] = table["slide_id"].map(_without_suffix)
    checked = check_table(table, SLIDES_MANIFEST, path=path)
    if patient == slide and (
        unknown := [name for name in checked["slide_id"] if parse_barcode(name) is None]
    ):
        raise InputError(
            f"does not say whose slide {unknown[0]} is: it has no column of patients, and that is no TCGA name",
            path=path,
            fix=f"add a column patient_id (known: {', '.join(PATIENT_COLUMNS)}) beside {header[names.index(slide)]}",
        )
    return [_entry(path, row, others) for row in table.to_dict("records")]


def _without_suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return name[: -len(suffix)].removesuffix(".ome") if suffix in SLIDE_SUFFIXES else name


def _entry(table: Path, row: dict[str, str], others: list[str]) -> SlideEntry:
    patient = patient_of(row["patient_id"])
    # Spreadsheets take the zeros off a site's number; a TCGA name keeps them.
    site = row["site"] if "site" in others and parse_barcode(patient) is None else ""
    donor = row["donor"] if "donor" in others else ""
    return SlideEntry(row["slide_id"], patient, table, site=site or None, donor=donor or None)


_TABLE = replace(SLIDES_MANIFEST, optional={"mpp": (RESOLUTION,)})


def slide_facts(
    table: str | Path | None, *, mpp: float | None = None
) -> Callable[[str], SlideFacts]:
    """A function that gives a slide's patient and µm per pixel.

    Parameters
    ----------
    table
        CSV or TSV with slide_id (also with a slide file's suffix), patient_id and optionally mpp; without it a TCGA
        name gives the patient, and any other slide is its own patient.
    mpp
        For slides of which the table says none.

    Raises
    ------
    InputError
        If the table is missing or faulty or the resolution implausible; and by the function, if the table lacks a
        slide.
    """
    if mpp is not None:
        check_mpp(mpp, what="--mpp")
    if table is None:
        return lambda slide: SlideFacts(patient_of(slide), mpp)
    known = {
        _without_suffix(row["slide_id"]): SlideFacts(
            patient_of(row["patient_id"]), float(row["mpp"]) if row["mpp"] else mpp
        )
        for row in read_table(table, _TABLE).to_dict("records")
    }

    def find(slide: str) -> SlideFacts:
        if slide not in known:
            raise InputError(
                f"slide {slide} is not in {Path(table).name}",
                path=table,
                fix="give it a row with its patient_id",
            )
        return known[slide]

    return find


class SlideFacts(NamedTuple):
    """What is known of a slide besides its features: its patient, and µm per pixel of level 0, None if unknown."""

    patient_id: str
    mpp: float | None = None
