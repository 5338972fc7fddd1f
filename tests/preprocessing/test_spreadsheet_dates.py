"""Dates that a spreadsheet made of gene symbols are recognised in all their forms."""

from __future__ import annotations

import pytest

from tcgn_mil.preprocessing.spreadsheet_dates import genes_of_date


@pytest.mark.parametrize(
    ("name", "genes"),
    [
        ("1-Mar", ("MARCHF1", "MTARC1")),
        ("3-Mar", ("MARCHF3",)),
        ("Mar-01", ("MARCHF1", "MTARC1")),
        ("1-mrz", ("MARCHF1", "MTARC1")),
        ("1. Mär", None),
        ("1.Mär", ("MARCHF1", "MTARC1")),
        ("2-Sep", ("SEPTIN2",)),
        ("9-Sep-19", ("SEPTIN9",)),
        ("9-sept.", ("SEPTIN9",)),
        ("Sep 9, 2019", ("SEPTIN9",)),
        ("15-Sep", ("SELENOF",)),
        ("01.Dez", ("DELEC1",)),
        ("2019-09-07", ("SEPTIN7",)),
        ("2019-03-01 00:00:00", ("MARCHF1", "MTARC1")),
        ("01/03/2019", ("MARCHF1", "MTARC1")),
        ("3/1/19", ("MARCHF1", "MTARC1")),
        ("09/02/2019", ("SEPTIN2",)),
        ("05-Apr", ()),
        ("MARCH1", None),
        ("MARCHF1", None),
        ("SEPT9", None),
        ("DEC1", None),
        ("NOV", None),
        ("HLA-A", None),
        ("NKX2-1", None),
        ("44806", None),
        ("1-2-3", None),
    ],
)
def test_genes_of_a_date(name: str, genes: tuple[str, ...] | None) -> None:
    assert genes_of_date(name) == genes


def test_numbers_of_days_are_dates_only_where_symbols_are_expected() -> None:
    assert genes_of_date("44806", serials=True) == ("SEPTIN2",)  # 2 September 2022
    assert genes_of_date("43525.0", serials=True) == ("MARCHF1", "MTARC1")  # 1 March 2019
    assert genes_of_date("7157", serials=True) is None
    assert genes_of_date("100130426", serials=True) is None
