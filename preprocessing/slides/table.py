"""Which slides there are and whose: one file, a folder, or a table (slide_id, patient_id, path, mpp, site, donor)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name
from tcgn_mil.io.tables.schema import read_table
from tcgn_mil.preprocessing.schemas import SLIDES_TABLE
from tcgn_mil.preprocessing.slides.readers import open_slide
from tcgn_mil.preprocessing.slides.readers.base import PLAIN_SUFFIXES, Slide
from tcgn_mil.preprocessing.slides.readers.dicom import SUFFIX as DICOM_SUFFIX
from tcgn_mil.preprocessing.slides.readers.dicom import find_series, name_series
from tcgn_mil.tcga_barcodes import patient_of
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.tile_geometry import check_mpp

SLIDE_SUFFIXES = frozenset(
    {
        ".svs",
        ".ndpi",
        ".mrxs",
        ".scn",
        ".svslide",
        ".bif",
        ".czi",
        ".vms",
        ".vmu",
        DICOM_SUFFIX,
        *PLAIN_SUFFIXES,
    }
)
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})


@dataclass(frozen=True)
class SlideEntry:
    """One slide of a cohort.

    Attributes
    ----------
    slide_id
        Unique in the cohort; names its files. By default the file's name without suffix.
    patient_id
        By default the patient of a TCGA barcode, else the slide's own id.
    path
        The slide file; whether it exists and can be read shows when it is opened.
    mpp
        µm per pixel stated for this slide (a table's column, or the option for a single slide).
    fallback_mpp
        µm per pixel if neither the file nor the table says (the option for a folder or a table).
    site
        Tissue source site or centre, if the table names it.
    donor
        The person, where a table lets something smaller (a section) stand for a patient.
    """

    slide_id: str
    patient_id: str
    path: Path
    mpp: float | None = None
    fallback_mpp: float | None = None
    site: str | None = None
    donor: str | None = None

    def open(self) -> Slide:
        """Open the file; see :func:`~tcgn_mil.preprocessing.slides.readers.open_slide` for errors."""
        return open_slide(self.path, mpp=self.mpp, fallback_mpp=self.fallback_mpp)


def find_slides(source: str | Path, *, mpp: float | None = None) -> list[SlideEntry]:
    """Slides of a file, a folder or a table, none opened.

    Parameters
    ----------
    source
        One slide; a folder (the slides in it, or if there are none those anywhere below, as GDC downloads lie; DICOM
        files of one series are one slide); or a CSV or TSV with a column path, relative to the table, and optionally
        slide_id, patient_id, mpp, site, donor.
    mpp
        µm per pixel: of the one slide, or of those slides in a folder or table for which nothing else is known.

    Raises
    ------
    InputError
        If the source is missing or holds no slide, two slides share an id, or a table's cell is not usable.
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
    """Sorted by path; of DICOM files one entry a series."""
    paths = _slides_in(folder)
    series = find_series([path for path in paths if path.suffix.lower() == DICOM_SUFFIX])
    entries = [
        _entry(one.file, slide_id=name, fallback_mpp=mpp)
        for one, name in zip(series, name_series(series), strict=True)
    ]
    entries += [
        _entry(path, fallback_mpp=mpp) for path in paths if path.suffix.lower() != DICOM_SUFFIX
    ]
    return sorted(entries, key=lambda entry: entry.path)


def _slides_in(folder: Path) -> list[Path]:
    for pattern in ("*", "**/*"):
        found = [
            path
            for path in folder.glob(pattern)
            if path.suffix.lower() in SLIDE_SUFFIXES
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ]
        if found:
            return sorted(found)
    raise InputError(
        "holds no slide",
        path=folder,
        fix=f"give a folder with files of the kinds {' '.join(sorted(SLIDE_SUFFIXES))}",
    )


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
    slide_id = safe_file_name(slide_id or path.stem.removesuffix(".ome"), what="slide id")
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
