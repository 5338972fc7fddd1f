"""Tests of the rules that bring gene ids to one name each, and of their counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.gene_names import (
    is_ensembl,
    merge_repeated,
    name_genes,
    without_version,
)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("ENSG00000141510.17", "ENSG00000141510"),
        ("ENSG00000182378.14_PAR_Y", "ENSG00000182378"),
        (" ENSMUSG00000000001.4 ", "ENSMUSG00000000001"),
        ("ENSG00000141510", "ENSG00000141510"),
        ("TP53", "TP53"),
        ("AC012345.1", "AC012345.1"),  # a clone's name, whose number is part of it
        ("H3.1", "H3.1"),
    ],
)
def test_only_ensembl_versions_are_taken_off(name: str, plain: str) -> None:
    assert without_version(name) == plain


@given(st.integers(0, 10**11 - 1), st.sampled_from(["ENSG", "ENSMUSG"]), st.integers(0, 99))
def test_a_version_never_changes_the_id(number: int, prefix: str, version: int) -> None:
    own = f"{prefix}{number:011d}"
    assert is_ensembl(f"{own}.{version}")
    assert without_version(f"{own}.{version}") == without_version(own) == own


def test_symbols_name_genes_where_there_are_any() -> None:
    ids = [
        "ENSG00000141510.17",
        "ENSG00000000001.2",
        "ENSG00000182378.14",
        "ENSG00000182378.14_PAR_Y",
        "ENSG00000206503.1",
    ]
    found = name_genes(ids, ["TP53", "", "PLCXD1", "PLCXD1", "HLA_A"])
    assert found.names == ("TP53", "ENSG00000000001", "PLCXD1", "PLCXD1", "HLA-A")
    assert found.report.as_dict() == {
        "ids": 5,
        "genes": 4,
        "versions": 5,
        "named_by_symbol": 4,
        "named_by_id": 1,
        "renamed": 1,
        "dates": 0,
        "merged": 1,
    }
    assert "1 ids merged with another of the same name" in str(found.report)


def test_ids_can_be_kept_and_symbols_looked_up() -> None:
    ids = ["ENSG00000141510.17", "ENSG00000000001"]
    assert name_genes(ids, ["TP53", "X"], by="ensembl").names == (
        "ENSG00000141510",
        "ENSG00000000001",
    )
    assert name_genes(ids, {"ENSG00000141510.9": "TP53"}).names == ("TP53", "ENSG00000000001")


def test_equal_dates_are_not_one_gene_and_a_date_is_no_symbol() -> None:
    named = name_genes(["1-Mar", "TP53", "1-Mar"])
    assert named.names == ("1-Mar", "TP53", "1-Mar (2)")
    assert (named.report.dates, named.report.merged) == (2, 0)
    ids = ["ENSG00000000001.1", "ENSG00000000002.1", "ENSG00000000003.1"]
    assert name_genes(ids, ["1-Mar", "1-Mar", "TP53"]).names == (ids[0][:-2], ids[1][:-2], "TP53")


def test_dates_of_a_spreadsheet_are_counted() -> None:
    report = name_genes(["1-Mar", "Sep-02", "2001-03-01", "MARCHF1", "DEC1"]).report
    assert report.dates == 3
    assert "spreadsheet" in str(report)


@pytest.mark.parametrize(
    ("ids", "arguments", "reason"),
    [
        (["A", ""], {}, "gene 2 has no name"),
        (["A"], {"by": "entrez"}, "named by 'entrez'"),
        (["A", "B"], {"symbols": ["x"]}, "2 gene ids, but 1 symbols"),
    ],
)
def test_what_cannot_be_named_is_refused(ids: list[str], arguments: dict, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        name_genes(ids, path="table.csv", **arguments)


@pytest.mark.parametrize(
    ("how", "offset", "expected"),
    [("sum", 0.0, 9.0), ("mean", 0.0, 4.5), ("sum of logs", 1.0, np.log2(7 + 63 + 1))],
)
def test_repeated_genes_are_one(how: str, offset: float, expected: float) -> None:
    table = pd.DataFrame(
        [[3.0, 1.0, 6.0], [np.nan, 2.0, np.nan], [np.nan, 2.0, 5.0]], columns=["A", "B", "A"]
    )
    merged = merge_repeated(table, how=how, log_offset=offset)
    assert list(merged.columns) == ["A", "B"]
    assert merged["A"].iloc[0] == pytest.approx(expected, rel=1e-6)
    assert np.isnan(merged["A"].iloc[1])
    assert merged["A"].iloc[2] == pytest.approx(5.0)
    assert list(merged["B"]) == [1, 2, 2]


def test_a_table_without_repeats_is_itself() -> None:
    table = pd.DataFrame([[0.1, 0.2]], columns=["A", "B"])
    assert merge_repeated(table, how="sum") is table
