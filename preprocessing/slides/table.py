"""Collect the slides of a cohort from one file, a folder or a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.tables.schema import read_table
from tcgn_mil.preprocessing.schemas import SLIDES_TABLE
from tcgn_mil.preprocessing.slides.readers import READERS, open_slide, slide_suffixes
from tcgn_mil.preprocessing.slides.readers.base import Slide
from tcgn_mil.tcga_barcodes import patient_of
from tcgn_mil.text import duplicates, preview
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
        Micrometres per pixel to use if neither the file nor the table says.
    site
        Tissue source site or centre, if the table has it.
    donor
        Person, in tables where `patient_id` stands for something smaller, such as a section.
    """

    slide_id: str
    patient_id: str
    path: Path
    mpp: float | None = None
    fallback_mpp: float | None = None
    site: str | None = None
    donor: str | None = None

    @property
    def file_stem(self) -> str:
        """Name of the slide file without suffix, by which other tools call the slide."""
        return _stem(self.path)

    def open(self) -> Slide:
        """Open the slide file by :func:`~tcgn_mil.preprocessing.slides.readers.open_slide`."""
        return open_slide(self.path, mpp=self.mpp, fallback_mpp=self.fallback_mpp)


def find_slides(source: str | Path, *, mpp: float | None = None) -> list[SlideEntry]:
    """Collect slides from a file, a folder or a table, without opening them.

    Parameters
    ----------
    source
        One of: a slide; a folder; a CSV or TSV table. In a folder the slides in it are taken, or,
        if there are none, the slides anywhere below it, as downloads of the GDC lie; the DICOM
        files of a series are one slide. A table has a column `path`, relative to the table, and may
        have the columns `slide_id`, `patient_id`, `mpp`, `site` and `donor`.
    mpp
        Micrometres per pixel. For a single slide this is a statement about it; in a folder or table
        it is used for slides that do not say their resolution.

    Returns
    -------
    list of SlideEntry
        Sorted by path for a folder, in the table's order for a table.

    Raises
    ------
    InputError
        If the source is missing or has no slide, two slides share an id, or a cell of the table is
        invalid.

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
    source = Path(source)
    if mpp is not None:
        check_mpp(mpp, what="--mpp")
    if source.is_dir():
        entries = _entries_in(source, mpp)
    elif source.suffix.lower() in TABLE_SUFFIXES:
        entries = _read_table(source, fallback_mpp=mpp)
    elif source.is_file():
        entries = [_entry(source, mpp=mpp)]
    else:
        raise InputError("no such slide, folder or table", path=source, fix="check the path")
    repeated = duplicates([entry.slide_id for entry in entries])
    if repeated:
        files = [str(entry.path) for entry in entries if entry.slide_id == repeated[0]]
        raise InputError(
            f"two slides share the id {preview(repeated)} ({preview(files)})",
            path=source,
            fix="give each slide its own slide_id in a slides table",
        )
    return entries


def _entries_in(folder: Path, mpp: float | None) -> list[SlideEntry]:
    """List the slides of a folder, sorted by path."""
    single = _slides_in(folder)
    entries = []
    for reader in READERS.values():
        if reader.list_slides is not None:  # several files make up one slide
            own = [path for path in single if path.suffix.lower() in reader.suffixes]
            single = [path for path in single if path not in own]
            entries += [
                _entry(file.path, slide_id=file.slide_id, fallback_mpp=mpp)
                for file in reader.list_slides(own)
            ]
    entries += [_entry(path, fallback_mpp=mpp) for path in single]
    return sorted(entries, key=lambda entry: entry.path)


def _slides_in(folder: Path) -> list[Path]:
    suffixes = slide_suffixes()
    for pattern in ("*", "**/*"):
        paths = [
            path
            for path in folder.glob(pattern)
            if path.suffix.lower() in suffixes
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ]
        if paths:
            return sorted(paths)
    raise InputError(
        "holds no slide",
        path=folder,
        fix=f"give a folder with files of these kinds: {' '.join(sorted(suffixes))}",
    )


def _stem(path: Path) -> str:
    return path.stem.removesuffix(".ome")


def _entry(
    path: Path,
    *,
    slide_id: str = "",
    patient_id: str = "",
    mpp: float | None = None,
    fallback_mpp: float | None = None,
    site: str = "",
    donor: str = "",
) -> SlideEntry:
    slide_id = safe_file_name(slide_id or _stem(path), what="slide id")
    patient_id = patient_id or patient_of(slide_id)
    return SlideEntry(slide_id, patient_id, path, mpp, fallback_mpp, site or None, donor or None)


def _read_table(table: Path, *, fallback_mpp: float | None) -> list[SlideEntry]:
    return [
        _entry(
            table.parent / row["path"],
            slide_id=row["slide_id"],
            patient_id=row["patient_id"],
            mpp=float(row["mpp"]) if row["mpp"] else None,
            fallback_mpp=fallback_mpp,
            site=row["site"],
            donor=row["donor"],
        )
        for row in read_table(table, SLIDES_TABLE).to_dict("records")
    ]
