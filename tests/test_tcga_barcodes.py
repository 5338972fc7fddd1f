"""TCGA barcodes are parsed from the names of slides and samples; other names stay as they are."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.tcga_barcodes import Barcode, parse_barcode, patient_of, sites_of

ALPHANUMERIC = string.ascii_uppercase + string.digits
code = st.text(ALPHANUMERIC, min_size=4, max_size=4)
site_code = st.text(ALPHANUMERIC, min_size=2, max_size=2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF-D8FB-45CF-B4BD-C6B76294C291",
            Barcode("TCGA-3C-AALI", "3C", 1, "diagnostic", "Z"),
        ),
        ("TCGA-3C-AAAU-01A-11R-A41B-07", Barcode("TCGA-3C-AAAU", "3C", 1, vial="A")),
        ("tcga-cr-7395-01a-01-ts1", Barcode("TCGA-CR-7395", "CR", 1, "frozen", "A")),
        ("TCGA-AO-A0J2-01A-01-BSA", Barcode("TCGA-AO-A0J2", "AO", 1, "frozen", "A")),
        ("TCGA-A7-A13E-11A", Barcode("TCGA-A7-A13E", "A7", 11, vial="A")),
        ("TCGA-A7-A13E-06", Barcode("TCGA-A7-A13E", "A7", 6)),
        ("TCGA-A7-A13E", Barcode("TCGA-A7-A13E", "A7")),
        (" TCGA-A7-A13E_tile ", Barcode("TCGA-A7-A13E", "A7")),
        ("TCGA-A7-A13E-123", Barcode("TCGA-A7-A13E", "A7")),
        ("TCGA.A7.A13E.06A.11R.A277.07", Barcode("TCGA-A7-A13E", "A7", 6, vial="A")),
        ("tcga_a7_a13e_11a", Barcode("TCGA-A7-A13E", "A7", 11, vial="A")),
        ("TCGA.A7.A13E.01Z.00.DX1", Barcode("TCGA-A7-A13E", "A7", 1, "diagnostic", "Z")),
        ("TCGA-A7-A13E.11A", Barcode("TCGA-A7-A13E", "A7", 11, vial="A")),
        ("TCGA-A7-A13E.1", Barcode("TCGA-A7-A13E", "A7")),
        ("TCGA-A7.A13E-01A", None),
        ("TCGA-A7-A13E-Normal", Barcode("TCGA-A7-A13E", "A7", 11)),
        ("TCGA-A7-A13E-T", Barcode("TCGA-A7-A13E", "A7", 1)),
        ("C3L-00001", Barcode("C3L-00001", "", program="CPTAC")),
        ("C3L.00001.N", Barcode("C3L-00001", "", 11, program="CPTAC")),
        ("C3N-00001_T", Barcode("C3N-00001", "", 1, program="CPTAC")),
        ("C3N-00001-21.svs", Barcode("C3N-00001", "", program="CPTAC")),
        ("X01BR001.N", Barcode("01BR001", "", 11, program="CPTAC")),
        ("01BR001_5", None),
        ("C3L-000012", None),
        ("TCGA-A7-A13E1", None),
        ("TCGA-A7", None),
        ("patient TCGA-A7-A13E", None),
        ("", None),
    ],
)
def test_parts_of_a_name(name: str, expected: Barcode | None) -> None:
    assert parse_barcode(name) == expected


def test_sample_is_the_first_15_characters_and_tumour_is_01_to_09() -> None:
    kinds = {
        number: parse_barcode(f"TCGA-A7-A13E-{number:02d}A") for number in (1, 6, 9, 10, 11, 20)
    }
    assert {number: b.is_tumour for number, b in kinds.items() if b} == {
        1: True,
        6: True,
        9: True,
        10: False,
        11: False,
        20: False,
    }
    assert kinds[6] is not None
    assert kinds[6].sample == "TCGA-A7-A13E-06"


@given(
    site_code,
    code,
    st.integers(0, 99),
    st.sampled_from(["", "A", "Z"]),
    st.sampled_from(["", "-11R-A41B-07", ".svs"]),
)
def test_any_barcode_gives_its_own_first_characters(
    site: str, person: str, kind: int, vial: str, tail: str
) -> None:
    name = f"TCGA-{site}-{person}-{kind:02d}{vial}{tail}"
    for written in (name, name.lower(), name.replace("-", "."), name.lower().replace("-", "_")):
        barcode = parse_barcode(written)
        assert barcode is not None
        assert (barcode.patient, barcode.site, barcode.sample) == (name[:12], name[5:7], name[:15])
        assert patient_of(written) == name[:12]
        assert parse_barcode(barcode.patient) == Barcode(barcode.patient, barcode.site)


@given(st.text(max_size=40))
def test_any_other_name_is_its_own_patient(name: str) -> None:
    barcode = parse_barcode(name)
    assert patient_of(name) == (name if barcode is None else barcode.patient)
    assert patient_of(patient_of(name)) == patient_of(name)


def test_a_patient_of_cptac_has_no_tissue_source_site() -> None:
    with pytest.raises(InputError, match="C3L-00001 are not TCGA barcodes"):
        sites_of(["TCGA-A7-A13E", "C3L-00001"])
