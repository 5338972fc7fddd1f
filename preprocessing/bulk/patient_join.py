"""Join the expression samples and the slides of each patient, and say why others are left out.

TCGA barcodes are joined on 15 characters (patient and sample type) if both sides state the sample
type, and otherwise on the 12 characters of the patient. The rules for one patient are:

1. Only tumour samples and slides of tumour tissue are used. Slides can be restricted to diagnostic
   or to frozen ones, as the section in their barcode says (DX, or TS, MS and BS).
2. A sample is usable if its sample type is that of some wanted slide. Types that are not stated fit
   any type.
3. Of the usable samples those of the lowest sample type win: primary tumour (01) before recurrent
   (02) before metastatic (06). A patient is therefore never an average of a primary tumour and its
   metastasis, whose expression differs.
4. All distinct samples of that type are replicates and are averaged. A row with the same values as
   an earlier one is a copy and does not count twice.
5. A slide is kept if its type fits the chosen samples. If the samples state no type, slides of the
   lowest type win.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.specimens import Specimen

SAMPLE_KEY = "TCGA sample (15 characters)"
PATIENT_KEY = "TCGA patient (12 characters)"
ID_KEY = "patient id"
NO_SLIDE = "no slide of this patient"  # a reason in join_report.csv
PREPARATIONS = ("any", "diagnostic", "frozen")


class JoinRow(NamedTuple):
    """A row of join_report.csv.

    Attributes
    ----------
    kind
        ``slide`` or ``sample``.
    id, patient_id, preparation
        As in :class:`~tcgn_mil.preprocessing.bulk.specimens.Specimen`.
    kept
        Whether it is in the cohort.
    key
        Key on which it was joined; empty if it was left out.
    reason
        Reason why it was left out, or a remark on one that was kept.
    """

    kind: str
    id: str
    patient_id: str
    preparation: str
    kept: bool
    key: str
    reason: str


def join_patients(
    slides: Sequence[Specimen] | None, samples: Sequence[Specimen], *, preparation: str = "any"
) -> tuple[list[JoinRow], list[JoinRow]]:
    """Join slides and samples patient by patient.

    Parameters
    ----------
    slides
        Slides; None if there are none. Samples are then chosen for their patient by the same rules.
    samples
        Expression samples.
    preparation
        ``any``, ``diagnostic`` or ``frozen``. Slides of another preparation are left out, and so
        are slides whose name states none.

    Returns
    -------
    slide_rows, sample_rows : list of JoinRow
        One row for each slide and each sample, in the orders given.

    Raises
    ------
    InputError
        If `preparation` is unknown.

    Examples
    --------
    >>> from tcgn_mil.preprocessing.bulk.specimens import sample_specimens
    >>> samples = sample_specimens(["TCGA-AA-0001-01A", "TCGA-AA-0001-06A"], [b"1", b"2"])
    >>> for row in join_patients(None, samples)[1]:
    ...     print(row.id, row.reason or "kept")
    TCGA-AA-0001-01A kept
    TCGA-AA-0001-06A a sample of type 01 is preferred
    """
    if preparation not in PREPARATIONS:
        raise InputError(
            f"unknown preparation {preparation!r}", fix=f"choose one of {', '.join(PREPARATIONS)}"
        )
    if slides is None:
        stand_ins = [
            Specimen("", name, None, True, False)
            for name in dict.fromkeys(sample.patient_id for sample in samples)
        ]
        return [], join_patients(stand_ins, samples)[1]
    slide_rows: list[JoinRow | None] = [None] * len(slides)
    sample_rows: list[JoinRow | None] = [None] * len(samples)
    slides_of, samples_of = _by_patient(slides), _by_patient(samples)
    for patient in slides_of | samples_of:
        slides_at, samples_at = slides_of.get(patient, []), samples_of.get(patient, [])
        of_slides, of_samples = _join_patient(
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


def _join_patient(
    slides: list[Specimen], samples: list[Specimen], preparation: str
) -> tuple[list[JoinRow], list[JoinRow]]:
    """Apply the rules at the top of this module to one patient."""
    # Rule 1: what a slide is by its own name, whatever the expression is.
    others = [_unwanted(slide, preparation) for slide in slides]
    wanted = [slide for slide, other in zip(slides, others, strict=True) if not other]
    # Rule 2: tumour samples that some wanted slide could show.
    usable = [
        sample
        for sample in samples
        if sample.is_tumour and any(_same_type(sample, slide) for slide in wanted)
    ]
    # Rule 3: only samples of the lowest type are averaged.
    best = min((sample.rank for sample in usable), default=None)
    chosen = [sample for sample in usable if sample.rank == best]
    # Rule 4: equal values are one measurement that was copied, not two replicates.
    distinct = len({sample.content for sample in chosen})
    slide_reasons = [
        other or _slide_reason(slide, samples, chosen)
        for slide, other in zip(slides, others, strict=True)
    ]
    # Rule 5: without a stated type of the expression, slides of several types may be left.
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


def _same_type(first: Specimen, second: Specimen) -> bool:
    """Return whether two specimens are of one sample type, or one of them does not state it."""
    stated = {first.sample_type, second.sample_type} - {None}
    return len(stated) < 2


def _unwanted(slide: Specimen, preparation: str) -> str:
    """Return why a slide is left out whatever the expression is; empty if it is wanted."""
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
    """Return why a wanted slide is left out; empty if it is kept."""
    if not samples:
        return "no expression of this patient"
    if not any(sample.is_tumour for sample in samples):
        return "no tumour expression of this patient"
    # The slide has to fit all chosen samples: they are averaged, so it stands for all of them.
    if not chosen or not all(_same_type(slide, sample) for sample in chosen):
        types = sorted({sample.rank for sample in chosen or samples if sample.is_tumour})
        return f"of sample type {slide.rank:02d}, but the expression is of type {_types(types)}"
    return ""


def _one_type(slides: list[Specimen], reasons: list[str]) -> list[str]:
    """Add a reason for slides of a later sample type than the first (rule 5)."""
    stated = [
        slide.rank
        for slide, reason in zip(slides, reasons, strict=True)
        if not reason and slide.sample_type is not None
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
    """Return why a sample is left out; empty if it is chosen."""
    if not slides:
        return NO_SLIDE
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
        partner.sample_type for partner in partners
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
