"""Which expression samples and which slides of a patient belong together, and why the others do not.

TCGA names join on 15 characters (patient and sample type) where both sides state them, else on the patient's 12. Only
tumour counts; of several sample types, of samples or slides, the lowest, primary tumour (01) first; of that, all
replicates. Slides may be restricted to diagnostic or to frozen ones, as their names say (DX; TS, MS, BS).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.readers.tables import Person
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.tcga_barcodes import parse_barcode, patient_of

SAMPLE_KEY = "TCGA sample (15 characters)"
PATIENT_KEY = "TCGA patient (12 characters)"
ID_KEY = "patient id"
PREPARATIONS = ("any", "diagnostic", "frozen")
_PRIMARY = 1  # a name that states no sample type ranks with primary tumours


class Specimen(NamedTuple):
    """A slide or an expression sample, by what its name says.

    ``sample_type`` is None where it is not stated; ``content`` tells replicates from rows that are merely repeated.
    """

    id: str
    patient_id: str
    sample_type: int | None
    is_tumour: bool
    is_barcode: bool
    preparation: str = ""
    content: bytes = b""

    @property
    def rank(self) -> int:
        """Order of preference."""
        return _PRIMARY if self.sample_type is None else self.sample_type


class JoinRow(NamedTuple):
    """One row of join_report.csv; `key` is what a kept row was joined on, `reason` why, or why not."""

    kind: str
    id: str
    patient_id: str
    preparation: str
    kept: bool
    key: str
    reason: str


def slide_specimens(slides: Sequence[SlideEntry]) -> list[Specimen]:
    """Slides in the order given.

    Raises
    ------
    InputError
        If a slides table gives a TCGA slide to another TCGA patient than the one in its name.
    """
    found = []
    for entry in slides:
        named, stated = parse_barcode(entry.slide_id), parse_barcode(entry.patient_id)
        if named and stated and named.patient != stated.patient:
            raise InputError(
                f"slide {entry.slide_id} is listed under patient {entry.patient_id}, whose name it does not bear",
                path=entry.path,
                fix="correct patient_id in the slides table",
            )
        found.append(_specimen(entry.slide_id, patient_of(entry.patient_id)))
    return found


def sample_specimens(
    names: Sequence[str], contents: Sequence[bytes], people: Sequence[Person | None] | None = None
) -> list[Specimen]:
    """Expression samples in the order given; `contents` holds a digest of each one's values.

    `people` says whose a sample is, and of what type, where its source does; the type that a TCGA name states comes
    first.
    """
    found = []
    for name, content, person in zip(names, contents, people or [None] * len(names), strict=True):
        specimen = _specimen(name, patient_of(name) if person is None else person.patient_id)
        if person is not None and specimen.sample_type is None:
            specimen = specimen._replace(is_tumour=person.is_tumour, sample_type=person.sample_type)
        found.append(specimen._replace(content=content))
    return found


def _specimen(name: str, patient: str) -> Specimen:
    barcode = parse_barcode(name)
    if barcode is None:
        return Specimen(
            name, patient, None, is_tumour=True, is_barcode=parse_barcode(patient) is not None
        )
    return Specimen(
        name, patient, barcode.sample_type, barcode.is_tumour, True, barcode.preparation
    )


def join_patients(
    slides: Sequence[Specimen] | None, samples: Sequence[Specimen], *, preparation: str = "any"
) -> tuple[list[JoinRow], list[JoinRow]]:
    """A report row for each slide and each sample, in their orders; the kept ones belong together by patient.

    Without slides (None) samples are chosen for their patient by the same rules. Slides of another preparation than the
    one asked for are left out, and those whose name states none.

    Raises
    ------
    InputError
        For an unknown preparation.
    """
    if preparation not in PREPARATIONS:
        raise InputError(
            f"unknown preparation {preparation!r}", fix=f"choose one of {', '.join(PREPARATIONS)}"
        )
    if slides is None:
        stand_ins = [
            Specimen("", name, None, True, False)
            for name in dict.fromkeys(s.patient_id for s in samples)
        ]
        return [], join_patients(stand_ins, samples)[1]
    slide_rows: list[JoinRow | None] = [None] * len(slides)
    sample_rows: list[JoinRow | None] = [None] * len(samples)
    slides_of, samples_of = _by_patient(slides), _by_patient(samples)
    for patient in slides_of | samples_of:
        slides_at, samples_at = slides_of.get(patient, []), samples_of.get(patient, [])
        of_slides, of_samples = _join_one(
            [slides[i] for i in slides_at], [samples[i] for i in samples_at], preparation
        )
        for position, row in zip(slides_at, of_slides, strict=True):
            slide_rows[position] = row
        for position, row in zip(samples_at, of_samples, strict=True):
            sample_rows[position] = row
    return [row for row in slide_rows if row], [row for row in sample_rows if row]


def _by_patient(specimens: Sequence[Specimen]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, specimen in enumerate(specimens):
        positions.setdefault(specimen.patient_id, []).append(position)
    return positions


def _join_one(
    slides: list[Specimen], samples: list[Specimen], preparation: str
) -> tuple[list[JoinRow], list[JoinRow]]:
    """The rows of one patient."""
    others = [_unwanted(slide, preparation) for slide in slides]
    wanted = [slide for slide, other in zip(slides, others, strict=True) if not other]
    usable = [s for s in samples if s.is_tumour and any(_compatible(s, slide) for slide in wanted)]
    best = min((sample.rank for sample in usable), default=None)
    chosen = [sample for sample in usable if sample.rank == best]
    distinct = len({sample.content for sample in chosen})
    slide_reasons = [
        other or _slide_reason(slide, samples, chosen)
        for slide, other in zip(slides, others, strict=True)
    ]
    slide_reasons = _one_type(slides, slide_reasons)
    kept_slides = [slide for slide, reason in zip(slides, slide_reasons, strict=True) if not reason]
    slide_rows = [
        _row("slide", slide, not reason, chosen, reason)
        for slide, reason in zip(slides, slide_reasons, strict=True)
    ]
    sample_rows = []
    seen: set[bytes] = set()
    for sample in samples:
        reason = _sample_reason(sample, slides, wanted, usable, best)
        kept = not reason and sample.content not in seen
        if kept:
            seen.add(sample.content)
            reason = f"one of {distinct} replicates, averaged" if distinct > 1 else ""
        sample_rows.append(
            _row(
                "sample",
                sample,
                kept,
                kept_slides,
                reason or "repeats an identical row" * (not kept),
            )
        )
    return slide_rows, sample_rows


def _compatible(one: Specimen, other: Specimen) -> bool:
    """Whether their sample types, as far as stated, are the same."""
    return (
        one.sample_type is None or other.sample_type is None or one.sample_type == other.sample_type
    )


def _unwanted(slide: Specimen, preparation: str) -> str:
    """Why a slide counts for nothing, whatever the expression; empty if it counts."""
    if not slide.is_tumour:
        return "not a slide of tumour tissue"
    if preparation in ("any", slide.preparation):
        return ""
    return (
        f"a {slide.preparation} slide"
        if slide.preparation
        else "its name says neither diagnostic nor frozen"
    )


def _slide_reason(slide: Specimen, samples: list[Specimen], chosen: list[Specimen]) -> str:
    """Why a slide that counts is left out; empty if it is kept."""
    if not samples:
        return "no expression of this patient"
    if not any(sample.is_tumour for sample in samples):
        return "no tumour expression of this patient"
    if not chosen or not all(_compatible(slide, sample) for sample in chosen):
        types = sorted({sample.rank for sample in chosen or samples if sample.is_tumour})
        return f"of sample type {slide.rank:02d}, but the expression is of type {_types(types)}"
    return ""


def _one_type(slides: list[Specimen], reasons: list[str]) -> list[str]:
    """The reasons, with those for slides of a later sample type: where the expression's is not stated, several fit."""
    stated = [
        s.rank
        for s, reason in zip(slides, reasons, strict=True)
        if not reason and s.sample_type is not None
    ]
    first = min(stated, default=0)
    return [
        f"a slide of type {first:02d} is preferred"
        if not reason and slide.sample_type not in (None, first)
        else reason
        for slide, reason in zip(slides, reasons, strict=True)
    ]


def _sample_reason(
    sample: Specimen,
    slides: list[Specimen],
    wanted: list[Specimen],
    usable: list[Specimen],
    best: int | None,
) -> str:
    """Why a sample is left out; empty if it is chosen."""
    if not slides:
        return "no slide of this patient"
    if not sample.is_tumour:
        return "not a tumour sample"
    if not any(slide.is_tumour for slide in slides):
        return "no slide of this patient shows tumour tissue"
    if not wanted:
        return "no slide of this patient is of the preparation asked for"
    if sample not in usable:
        types = sorted({slide.rank for slide in wanted})
        return f"of sample type {sample.rank:02d}, but the slides are of type {_types(types)}"
    if sample.rank != best:
        return f"a sample of type {best:02d} is preferred"
    return ""


def _types(types: Sequence[int]) -> str:
    return ", ".join(f"{number:02d}" for number in types)


def _row(
    kind: str, specimen: Specimen, kept: bool, partners: list[Specimen], reason: str
) -> JoinRow:
    by_sample = specimen.sample_type is not None and specimen.sample_type in {
        p.sample_type for p in partners
    }
    key = SAMPLE_KEY if by_sample else PATIENT_KEY if specimen.is_barcode else ID_KEY
    return JoinRow(
        kind,
        specimen.id,
        specimen.patient_id,
        specimen.preparation,
        kept,
        key if kept else "",
        reason,
    )
