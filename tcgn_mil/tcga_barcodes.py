"""Parse TCGA barcodes and CPTAC names: patient, sample type and site of a slide or sample.

In ``TCGA-3C-AALI-01Z-00-DX1`` characters 1 to 12 name the patient, 6 and 7 the tissue source site
(the hospital), and 14 and 15 the sample type: 01 to 09 are tumours, 10 to 19 normal tissue, 20 to
29 controls. Character 16 is the vial; a slide and an RNA aliquot of the same sample come from
different vials. In the name of a slide a portion and a kind follow: DX is a diagnostic slide (fixed
in formalin, embedded in paraffin); TS, MS and BS are the top, middle and bottom of a frozen sample.

R replaces the hyphens by dots (``TCGA.3C.AALI.01A``, from ``make.names``), and some files have
underscores. Both are read as hyphens, because no other name begins like this.

CPTAC names a patient ``C3L-00001``, ``C3N-00001`` or, in older studies, ``01BR001``. Tables add
``.N`` or ``-T`` for normal tissue and tumour. The numbers that slides and samples have in addition
(``C3L-00001-21``) count them and do not state a sample type, unlike those of TCGA.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tcgn_mil.errors import InputError
from tcgn_mil.text import preview

# Words for tumour and normal tissue that tables append to the patient.
_TISSUE = r"(?P<tissue>TUMOU?R|NORMAL|NAT|TP|NT|TM|TR|[TN])"
_TYPE_OF_WORD = {"TR": 2, "TM": 6, "N": 11, "NT": 11, "NAT": 11, "NORMAL": 11}  # others: 1

# The end of the expressions refuses a name that goes on with a letter or a digit, so that
# "TCGA-A7-A13E1" is not read as patient TCGA-A7-A13E. The group `sep` makes the parts of the
# patient agree; a sample type is also read behind another separator if its vial confirms it.
_TCGA = re.compile(
    r"TCGA(?P<sep>[-._])(?P<site>[A-Z0-9]{2})(?P=sep)(?P<person>[A-Z0-9]{4})"
    r"(?:(?:(?P=sep)|[-._](?=[0-9]{2}[A-Z](?:[^A-Z0-9]|$)))"
    r"(?P<type>[0-9]{2})(?P<vial>[A-Z])?(?:[-._][0-9]{2}[-._](?P<kind>DX|[TMB]S)[A-Z0-9]*)?"
    rf"|[-._]{_TISSUE})?"
    r"(?=[^A-Z0-9]|$)",
    re.IGNORECASE | re.ASCII,
)
_CPTAC = re.compile(
    rf"(?P<patient>C3[LN][-._][0-9]{{5}})(?:[-._]?{_TISSUE}(?:[0-9]{{1,2}})?)?(?=[^A-Z0-9]|$)",
    re.IGNORECASE | re.ASCII,
)
# Other studies could have names that begin like these, so that nothing but the tissue may follow. R
# writes X before a name that begins with a digit.
_OLD_CPTAC = re.compile(
    rf"(?P<patient>X?[0-9]{{2}}(?:BR|CO|LU|OV)[0-9]{{3}})(?:[-._]?{_TISSUE})?", re.ASCII
)
TCGA, CPTAC = "TCGA", "CPTAC"
SAMPLE_TYPES = {
    1: "primary tumour",
    2: "recurrent tumour",
    3: "primary blood cancer",
    5: "additional primary tumour",
    6: "metastasis",
    7: "additional metastasis",
}


@dataclass(frozen=True)
class Barcode:
    """Parts of a TCGA barcode, or of a name of CPTAC.

    Attributes
    ----------
    patient
        First 12 characters, with hyphens and in capitals. For CPTAC ``C3L-00001`` or ``01BR001``.
    site
        Tissue source site, two characters. Empty for CPTAC, whose names do not state it.
    sample_type
        01 to 09 for a tumour, 10 to 19 for normal tissue, 20 to 29 for a control. None if the name
        does not state it.
    preparation
        ``diagnostic`` or ``frozen`` for a slide. Empty if the name does not state it.
    vial
        Letter of the vial. Empty if the name does not state it. Slides and RNA come from different
        vials, so that they cannot be joined by it.
    program
        ``TCGA`` or ``CPTAC``.
    """

    patient: str
    site: str
    sample_type: int | None = None
    preparation: str = ""
    vial: str = ""
    program: str = TCGA

    @property
    def sample(self) -> str | None:
        """First 15 characters (patient and sample type), or None without a sample type."""
        return None if self.sample_type is None else f"{self.patient}-{self.sample_type:02d}"

    @property
    def is_tumour(self) -> bool:
        """False if the sample type is not a tumour. A name without sample type counts as tumour."""
        return self.sample_type is None or 1 <= self.sample_type <= 9


def parse_barcode(name: str) -> Barcode | None:
    """Parse the TCGA barcode, or the name of CPTAC, at the start of a name.

    Parameters
    ----------
    name
        Name of a patient, a sample or a slide of any length, in upper or lower case, with hyphens,
        dots or underscores.

    Returns
    -------
    Barcode or None
        None if the name does not start with a barcode.

    Examples
    --------
    >>> barcode = parse_barcode("TCGA-3C-AALI-01Z-00-DX1.svs")
    >>> barcode.patient, barcode.site, barcode.sample, barcode.preparation
    ('TCGA-3C-AALI', '3C', 'TCGA-3C-AALI-01', 'diagnostic')
    >>> parse_barcode("tcga.3c.aali.11a.11r").sample, parse_barcode("C3L.00001.N").is_tumour
    ('TCGA-3C-AALI-11', False)
    """
    name = name.strip()
    if (match := _TCGA.match(name)) is not None:
        kind, site = (match["kind"] or "").upper(), match["site"].upper()
        return Barcode(
            patient=f"TCGA-{site}-{match['person'].upper()}",
            site=site,
            sample_type=_type_of_word(match["tissue"]) if match["tissue"] else _number(match),
            preparation="" if not kind else "diagnostic" if kind == "DX" else "frozen",
            vial=(match["vial"] or "").upper(),
        )
    if (match := _CPTAC.match(name) or _OLD_CPTAC.fullmatch(name)) is not None:
        patient = re.sub("[._]", "-", match["patient"].upper().removeprefix("X"))
        tissue = match["tissue"]
        return Barcode(patient, "", _type_of_word(tissue) if tissue else None, program=CPTAC)
    return None


def _number(match: re.Match[str]) -> int | None:
    return None if match["type"] is None else int(match["type"])


def _type_of_word(word: str) -> int:
    return _TYPE_OF_WORD.get(word.upper(), 1)


def patient_of(name: str) -> str:
    """Return the patient of a sample or slide.

    Parameters
    ----------
    name
        Name of a patient, a sample or a slide.

    Returns
    -------
    str
        The patient in a TCGA barcode or in a name of CPTAC; any other name is returned unchanged.

    Examples
    --------
    >>> patient_of("TCGA-3C-AALI-01Z-00-DX1"), patient_of("patient 7")
    ('TCGA-3C-AALI', 'patient 7')
    >>> patient_of("tcga.3c.aali.01a.11r"), patient_of("C3L-00001-21")
    ('TCGA-3C-AALI', 'C3L-00001')
    """
    barcode = parse_barcode(name)
    return name if barcode is None else barcode.patient


def site_of(name: str) -> str | None:
    """Return the tissue source site in a TCGA barcode; None if a name does not state one.

    Examples
    --------
    >>> site_of("TCGA-3C-AALI-01A"), site_of("C3L-00001")
    ('3C', None)
    """
    barcode = parse_barcode(name)
    return barcode.site if barcode is not None and barcode.site else None


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
    sites = {name: site_of(name) for name in patients}
    if other := [name for name, site in sites.items() if site is None]:
        raise InputError(
            f"{preview(other)} are not TCGA barcodes, so their tissue source site is not known",
            fix="set group_by=patient",
        )
    return {name: site for name, site in sites.items() if site is not None}
