"""Collect the slides of a cohort from one file, a folder or a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import reads
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.failures import LeftOut
from tcgn_mil.io.tables.schema import read_table
from tcgn_mil.preprocessing.schemas import SLIDES_TABLE, YES
from tcgn_mil.preprocessing.slides.folder import NOWHERE, existing_spelling, search_folder
from tcgn_mil.preprocessing.slides.readers import (
    READERS,
    is_slide_folder,
    open_slide,
    slide_files,
)
from tcgn_mil.preprocessing.slides.readers.base import Slide, check_slide_file
from tcgn_mil.resume.digests import slide_digest
from tcgn_mil.tcga_barcodes import patient_of
from tcgn_mil.text import composed, duplicates, preview
from tcgn_mil.types.tile_geometry import check_mpp

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})


@dataclass(frozen=True)
class SlideEntry:
    """A slide of a cohort.

    Attributes
    ----------
    slide_id
        Name of the slide, unique in the cohort, by which its tile and feature files are named. By
        default the name of the slide file without suffix.
    patient_id
        Patient of the slide. By default the patient of a TCGA barcode, otherwise the slide id.
    path
        Slide file. Whether it exists and can be read is seen when it is opened.
    mpp
        Micrometres per pixel stated for this slide, in a column of the table or by the option where
        there is only one slide.
    fallback_mpp
        Micrometres per pixel stated for all slides of the folder or table, used where `mpp` is
        None. Like `mpp` it must agree with the file.
    site
        Tissue source site or centre, if the table has it.
    donor
        Person, in tables where `patient_id` stands for something smaller, such as a section.
    override_mpp
        Use the stated resolution in spite of the file.
    """

    slide_id: str
    patient_id: str
    path: Path
    mpp: float | None = None
    fallback_mpp: float | None = None
    site: str | None = None
    donor: str | None = None
    override_mpp: bool = False

    @property
    def file_stem(self) -> str:
        """Name of the slide file without suffix, by which other tools call the slide."""
        return _stem(self.path)

    def open(self) -> Slide:
        """Open the slide file by :func:`~tcgn_mil.preprocessing.slides.readers.open_slide`."""
        mpp = self.fallback_mpp if self.mpp is None else self.mpp
        return open_slide(self.path, mpp=mpp, override_mpp=self.override_mpp)

    def digest(self) -> str:
        """Return the digest of the slide's files (:func:`~tcgn_mil.resume.digests.slide_digest`).

        Raises
        ------
        InputError
            If the file is missing or empty.
        """
        if not is_slide_folder(self.path):
            check_slide_file(self.path)
        return slide_digest(slide_files(self.path))


_NOTHING = SlideEntry("", "", Path())  # what is given of a slide before its file is looked at


class SlideSearch(NamedTuple):
    """Slides of a file, a folder or a table.

    Attributes
    ----------
    entries
        The slides.
    left_out
        Files of a folder that are left out, with the reason.
    """

    entries: list[SlideEntry]
    left_out: list[LeftOut]


def find_slides(
    source: str | Path,
    *,
    mpp: float | None = None,
    override_mpp: bool = False,
    recursive: bool = False,
) -> list[SlideEntry]:
    """Collect slides from a file, a folder or a table, without opening them.

    The parameters and errors are those of :func:`search_slides`, which also tells what was left
    out.

    Returns
    -------
    list of SlideEntry
        Sorted by path for a folder, in the table's order for a table.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> Path(folder.name, "TCGA-AA-3506-01Z-00-DX1.svs").touch()
    >>> Path(folder.name, "notes.txt").touch()
    >>> for slide in find_slides(folder.name):
    ...     print(slide.slide_id, slide.patient_id)
    TCGA-AA-3506-01Z-00-DX1 TCGA-AA-3506
    >>> folder.cleanup()
    """
    return search_slides(source, mpp=mpp, override_mpp=override_mpp, recursive=recursive).entries


@reads("slides", fix="check the path")
def search_slides(
    source: str | Path,
    *,
    mpp: float | None = None,
    override_mpp: bool = False,
    recursive: bool = False,
) -> SlideSearch:
    """Collect slides from a file, a folder or a table, and tell which files are left out.

    Parameters
    ----------
    source
        One of: a slide; a folder; a CSV or TSV table. In a folder the slides in it are taken, or,
        if there are none, the slides anywhere below it, as downloads of the GDC lie; the DICOM
        files of a series are one slide, and so is the folder of an OME-Zarr. A table has a column
        `path`, relative to the table, and may have the columns `slide_id`, `patient_id`, `mpp`,
        `override_mpp`, `site` and `donor`.
    mpp
        Micrometres per pixel, for slides that do not say theirs. A slide whose file says another
        value cannot be opened.
    override_mpp
        Use `mpp`, or that of the table, in spite of the files. The column `override_mpp` (yes or
        no) says it slide by slide.
    recursive
        Take the slides in all folders below a folder, too.

    Returns
    -------
    SlideSearch

    Raises
    ------
    InputError
        If the source is missing or has no slide, two slides share an id, a cell of the table is
        invalid, or a resolution is to be overridden and none is given.
    """
    source = Path(source)
    if mpp is not None:
        check_mpp(mpp, what="--mpp")
    left_out: list[LeftOut] = []
    if is_slide_folder(source):
        entries = [_entry(source, replace(_NOTHING, mpp=mpp, override_mpp=override_mpp))]
    elif source.is_dir():
        found = search_folder(source, recursive=recursive)
        given = replace(_NOTHING, fallback_mpp=mpp, override_mpp=override_mpp)
        entries, left_out = _entries_of(found.paths, given), found.left_out
    elif source.suffix.lower() in TABLE_SUFFIXES:
        given = replace(_NOTHING, fallback_mpp=mpp, override_mpp=override_mpp)
        entries = _read_table(source, given)
    elif (file := existing_spelling(source)).is_file():
        entries = [_entry(file, replace(_NOTHING, mpp=mpp, override_mpp=override_mpp))]
    elif source.is_symlink():
        raise InputError(
            NOWHERE, path=source, fix="mount the disk that it leads to, or make the link again"
        )
    else:
        raise InputError("no such slide, folder or table", path=source, fix="check the path")
    for entry in entries:
        if entry.override_mpp and entry.mpp is None and entry.fallback_mpp is None:
            raise InputError(
                f"the resolution of slide {entry.slide_id} is to be overridden, but no other is"
                " given",
                path=source,
                fix="give it with --mpp, or in the column mpp of the slides table",
            )
    repeated = duplicates([entry.slide_id for entry in entries])
    if repeated:
        files = [str(entry.path) for entry in entries if entry.slide_id == repeated[0]]
        raise InputError(
            f"two slides share the id {preview(repeated)} ({preview(files)})",
            path=source,
            fix="give each slide its own slide_id in a slides table",
        )
    return SlideSearch(entries, left_out)


def _entries_of(paths: list[Path], given: SlideEntry) -> list[SlideEntry]:
    """Make the slides of a folder from its files, sorted by path."""
    entries = []
    for reader in READERS.values():
        if reader.list_slides is not None:  # several files make up one slide
            own = [path for path in paths if path.suffix.lower() in reader.suffixes]
            paths = [path for path in paths if path.suffix.lower() not in reader.suffixes]
            entries += [
                _entry(file.path, replace(given, slide_id=file.slide_id))
                for file in reader.list_slides(own)
            ]
    entries += [_entry(path, given) for path in paths]
    return sorted(entries, key=lambda entry: entry.path)


def _stem(path: Path) -> str:
    return path.stem[:-4] if path.stem.lower().endswith(".ome") else path.stem


def _entry(path: Path, given: SlideEntry) -> SlideEntry:
    """Complete what is given of a slide by its path, its id and its patient."""
    slide_id = safe_file_name(composed(given.slide_id or _stem(path)), what="slide id")
    patient = patient_of(given.patient_id or slide_id)
    return replace(given, path=path, slide_id=slide_id, patient_id=patient)


def _read_table(table: Path, given: SlideEntry) -> list[SlideEntry]:
    return [
        _entry(
            existing_spelling(table.parent / row["path"]),
            replace(
                given,
                slide_id=row["slide_id"],
                patient_id=row["patient_id"],
                mpp=float(row["mpp"]) if row["mpp"] else None,
                override_mpp=_is_yes(row["override_mpp"], given.override_mpp),
                site=row["site"] or None,
                donor=row["donor"] or None,
            ),
        )
        for row in read_table(table, SLIDES_TABLE).to_dict("records")
    ]


def _is_yes(cell: str, default: bool) -> bool:
    return cell.strip().lower() in YES if cell.strip() else default
