"""Describe slides and expression samples by their names, as far as the names are TCGA barcodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.expression_table import Person
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.tcga_barcodes import CPTAC, TCGA, parse_barcode, patient_of, site_of
from tcgn_mil.text import preview

# A name that states no sample type ranks with primary tumours: most studies outside TCGA have
# one tumour for each patient.
_PRIMARY = 1
FFPE = "FFPE"
_FFPE_VIAL = "Z"


class Specimen(NamedTuple):
    """A slide or an expression sample.

    Attributes
    ----------
    id
        Name of the slide or sample.
    patient_id
        Its patient.
    sample_type
        Code of the sample type in TCGA; None if not stated.
    is_tumour
        Whether it is of a tumour, or does not state what it is of.
    is_barcode
        Whether its name, or its patient's, is a TCGA barcode.
    preparation
        ``diagnostic``, ``frozen``, or empty if not stated. For slides.
    content
        Digest of the values, which tells replicates from copied rows. For samples.
    vial
        Letter of the vial; empty if not stated.
    preservation
        ``FFPE`` or what the source says; empty if not stated. In TCGA, vial Z is FFPE; other FFPE
        vials are known only from a sample sheet.
    """

    id: str
    patient_id: str
    sample_type: int | None
    is_tumour: bool
    is_barcode: bool
    preparation: str = ""
    content: bytes = b""
    vial: str = ""
    preservation: str = ""

    @property
    def rank(self) -> int:
        """Sample type as order of preference, lowest first."""
        return _PRIMARY if self.sample_type is None else self.sample_type


def slide_specimens(slides: Sequence[SlideEntry]) -> list[Specimen]:
    """Return the slides as specimens, in the order given.

    Raises
    ------
    InputError
        If a slides table assigns a slide to another TCGA patient than the one in its barcode.
    """
    specimens = []
    for entry in slides:
        named, stated = parse_barcode(entry.slide_id), parse_barcode(entry.patient_id)
        if named and stated and named.patient != stated.patient:
            raise InputError(
                f"slide {entry.slide_id} is listed under patient {entry.patient_id}, but its"
                f" barcode names {named.patient}",
                path=entry.path,
                fix="correct patient_id in the slides table",
            )
        specimens.append(_specimen(entry.slide_id, patient_of(entry.patient_id)))
    return specimens


def sample_specimens(
    names: Sequence[str],
    contents: Sequence[bytes],
    people: Sequence[Person | None] | None = None,
    *,
    path: str | Path | None = None,
) -> list[Specimen]:
    """Return expression samples as specimens, in the order given.

    Parameters
    ----------
    names
        Names of the samples.
    contents
        Digest of the values of each sample.
    people
        Patient and tissue of each sample, if its source states them. The sample type in a TCGA
        barcode is preferred to the one stated here.
    path
        File of the samples, for messages.

    Raises
    ------
    InputError
        If a patient of CPTAC has several samples whose names do not tell tumour from normal tissue.
    """
    specimens = []
    for name, content, person in zip(names, contents, people or [None] * len(names), strict=True):
        specimen = _specimen(name, patient_of(name) if person is None else person.patient_id)
        if person is not None and specimen.sample_type is None:
            specimen = specimen._replace(is_tumour=person.is_tumour, sample_type=person.sample_type)
        if person is not None and person.preservation:
            specimen = specimen._replace(preservation=_preservation(person.preservation))
        specimens.append(specimen._replace(content=content))
    if people is None or not any(people):
        _check_untyped(specimens, path)
    return specimens


def _check_untyped(specimens: Sequence[Specimen], path: str | Path | None) -> None:
    """Refuse several samples of a CPTAC patient whose names do not tell tumour from normal tissue.

    The numbers of CPTAC's samples count them, so that an average of C3L-00001-01 and C3L-00001-06
    could be one of tumour and normal tissue.
    """
    by_patient: dict[str, dict[bytes, str]] = {}
    for specimen in specimens:
        barcode = parse_barcode(specimen.id)
        if barcode is not None and barcode.program == CPTAC and barcode.sample_type is None:
            by_patient.setdefault(specimen.patient_id, {})[specimen.content] = specimen.id
    for patient, samples in by_patient.items():
        if len(samples) > 1:
            raise InputError(
                f"patient {patient} has {len(samples)} samples ({preview(list(samples.values()))})"
                " whose names do not say which are of normal tissue",
                path=path,
                fix="write -T or -N after the patient, for example"
                f" {patient}-T, or remove the normal samples",
            )


def _preservation(text: str) -> str:
    words = text.lower()
    if "ffpe" in words or "paraffin" in words:
        return FFPE
    return "" if words in ("--", "unknown", "not reported", "na") else text


def _specimen(name: str, patient: str) -> Specimen:
    barcode = parse_barcode(name)
    if barcode is None:
        return Specimen(
            name, patient, None, is_tumour=True, is_barcode=site_of(patient) is not None
        )
    return Specimen(
        name,
        patient,
        barcode.sample_type,
        barcode.is_tumour,
        barcode.program == TCGA,
        barcode.preparation,
        vial=barcode.vial,
        preservation=FFPE if barcode.vial == _FFPE_VIAL else "",
    )
