"""Parse TCGA barcodes: patient, sample and tissue source site from the name of a slide or sample.

In ``TCGA-3C-AALI-01Z-00-DX1`` characters 1 to 12 name the patient, 6 and 7 the tissue source site
(the hospital), and 14 and 15 the sample type: 01 to 09 are tumours, 10 to 19 normal tissue, 20 to
29 controls. Character 16 is the vial; a slide and an RNA aliquot of the same sample come from
different vials. In the name of a slide a portion and a kind follow: DX is a diagnostic slide (fixed
in formalin, embedded in paraffin); TS, MS and BS are the top, middle and bottom of a frozen sample.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tcgn_mil.errors import InputError
from tcgn_mil.text import preview

# The end of the expression refuses a name that goes on with a letter or a digit, so that
# "TCGA-A7-A13E1" is not read as patient TCGA-A7-A13E.
_BARCODE = re.compile(
    r"(?P<patient>TCGA-(?P<site>[A-Z0-9]{2})-[A-Z0-9]{4})"
    r"(?:-(?P<type>[0-9]{2})(?P<vial>[A-Z])?(?:-[0-9]{2}-(?P<kind>DX|[TMB]S)[A-Z0-9]*)?)?"
    r"(?=[^A-Z0-9]|$)",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Barcode:
    """Parts of a TCGA barcode.

    Attributes
    ----------
    patient
        First 12 characters.
    site
        Tissue source site, two characters.
    sample_type
        01 to 09 for a tumour, 10 to 19 for normal tissue, 20 to 29 for a control. None if the name
        ends after the patient.
    preparation
        ``diagnostic`` or ``frozen`` for a slide. Empty if the name does not state it.
    vial
        Letter of the vial. Empty if the name does not state it. Slides and RNA come from different
        vials, so that they cannot be joined by it.
    """

    patient: str
    site: str
    sample_type: int | None = None
    preparation: str = ""
    vial: str = ""

    @property
    def sample(self) -> str | None:
        """First 15 characters (patient and sample type), or None without a sample type."""
        return None if self.sample_type is None else f"{self.patient}-{self.sample_type:02d}"

    @property
    def is_tumour(self) -> bool:
        """False if the sample type is not a tumour. A name without sample type counts as tumour."""
        return self.sample_type is None or 1 <= self.sample_type <= 9


def parse_barcode(name: str) -> Barcode | None:
    """Parse the TCGA barcode at the start of a name.

    Parameters
    ----------
    name
        Name of a patient, a sample or a slide, in upper or lower case.

    Returns
    -------
    Barcode or None
        None if the name does not start with a barcode.

    Examples
    --------
    >>> barcode = parse_barcode("TCGA-3C-AALI-01Z-00-DX1.svs")
    >>> barcode.patient, barcode.site, barcode.sample, barcode.preparation
    ('TCGA-3C-AALI', '3C', 'TCGA-3C-AALI-01', 'diagnostic')
    """
    match = _BARCODE.match(name.strip())
    if match is None:
        return None
    sample_type, kind = match["type"], (match["kind"] or "").upper()
    return Barcode(
        patient=match["patient"].upper(),
        site=match["site"].upper(),
        sample_type=None if sample_type is None else int(sample_type),
        preparation="" if not kind else "diagnostic" if kind == "DX" else "frozen",
        vial=(match["vial"] or "").upper(),
    )


def patient_of(name: str) -> str:
    """Return the patient of a sample or slide.

    Parameters
    ----------
    name
        Name of a patient, a sample or a slide.

    Returns
    -------
    str
        The first 12 characters of a TCGA barcode; any other name is returned unchanged.

    Examples
    --------
    >>> patient_of("TCGA-3C-AALI-01Z-00-DX1"), patient_of("patient 7")
    ('TCGA-3C-AALI', 'patient 7')
    """
    barcode = parse_barcode(name)
    return name if barcode is None else barcode.patient


def sites_of(patients: Sequence[str]) -> dict[str, str]:
    """Return the tissue source site of each patient.

    Parameters
    ----------
    patients
        Names that start with a TCGA barcode.

    Returns
    -------
    dict
        Site of each patient.

    Raises
    ------
    InputError
        If a name has no barcode.

    Examples
    --------
    >>> sites_of(["TCGA-3C-AALI", "TCGA-A7-A13E"])
    {'TCGA-3C-AALI': '3C', 'TCGA-A7-A13E': 'A7'}
    """
    barcodes = {name: parse_barcode(name) for name in patients}
    if other := [name for name, barcode in barcodes.items() if barcode is None]:
        raise InputError(
            f"{preview(other)} are not TCGA barcodes, so their tissue source site is not known",
            fix="set group_by=patient",
        )
    return {name: barcode.site for name, barcode in barcodes.items() if barcode is not None}
