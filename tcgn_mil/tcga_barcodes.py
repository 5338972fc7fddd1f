"""TCGA barcodes: patient, sample and tissue source site from the name of a slide or an RNA aliquot.

Characters 1-12 are the patient, 6-7 the tissue source site, 14-15 the sample type (01-09 tumour, 10-19 normal, 20-29
control), 16 the vial, which differs between a slide and an RNA aliquot of the same sample. A slide goes on with its
portion and kind: DX for a diagnostic slide (fixed, in paraffin); TS, MS or BS for the top, middle or bottom of a frozen
one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tcgn_mil.errors import InputError
from tcgn_mil.text import preview

_BARCODE = re.compile(
    r"(?P<patient>TCGA-(?P<site>[A-Z0-9]{2})-[A-Z0-9]{4})"
    r"(?:-(?P<type>[0-9]{2})(?P<vial>[A-Z])?(?:-[0-9]{2}-(?P<kind>DX|[TMB]S)[A-Z0-9]*)?)?(?=[^A-Z0-9]|$)",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Barcode:
    """A TCGA barcode's parts.

    Attributes
    ----------
    patient, site
        First 12 characters, and the tissue source site among them.
    sample_type
        01-09 tumour, 10-19 normal, 20-29 control; None where the name ends at the patient.
    preparation
        ``diagnostic`` or ``frozen`` for a slide, empty where the name does not say.
    vial
        Letter of the sample's vial, empty where the name does not say. No key for a join.
    """

    patient: str
    site: str
    sample_type: int | None = None
    preparation: str = ""
    vial: str = ""

    @property
    def sample(self) -> str | None:
        """First 15 characters: patient and sample type."""
        return None if self.sample_type is None else f"{self.patient}-{self.sample_type:02d}"

    @property
    def is_tumour(self) -> bool:
        """Whether the sample type says tumour; an unstated one counts as tumour."""
        return self.sample_type is None or 1 <= self.sample_type <= 9


def parse_barcode(name: str) -> Barcode | None:
    """The barcode that `name` starts with, None if it starts with none."""
    found = _BARCODE.match(name.strip())
    if found is None:
        return None
    sample_type, kind = found["type"], (found["kind"] or "").upper()
    return Barcode(
        patient=found["patient"].upper(),
        site=found["site"].upper(),
        sample_type=None if sample_type is None else int(sample_type),
        preparation="" if not kind else "diagnostic" if kind == "DX" else "frozen",
        vial=(found["vial"] or "").upper(),
    )


def patient_of(name: str) -> str:
    """The 12-character patient of a TCGA name; any other name is its own patient."""
    barcode = parse_barcode(name)
    return name if barcode is None else barcode.patient


_TCGA = re.compile(r"TCGA-(\w{2})-\w{4}.*")


def sites_of(patients: Sequence[str]) -> dict[str, str]:
    """Patient -> tissue source site, characters 6 and 7 of a TCGA barcode.

    Raises
    ------
    InputError
        For a name that is no barcode.
    """
    found = {name: _TCGA.fullmatch(name) for name in patients}
    if other := [name for name, match in found.items() if match is None]:
        raise InputError(
            f"{preview(other)} are no TCGA barcodes, which tell the site",
            fix="set group_by to patient",
        )
    return {name: match.group(1) for name, match in found.items() if match is not None}
