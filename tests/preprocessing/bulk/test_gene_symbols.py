"""Gene names of portals become symbols, and those that name no gene are left out and listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.gene_map import GeneMap, read_gene_map
from tcgn_mil.preprocessing.bulk.gene_symbols import DATE, NO_SYMBOL, clean_names

# Rows of the form of HGNC's complete set; the names and numbers are made up.
HGNC = (
    "hgnc_id\tsymbol\tprev_symbol\tentrez_id\tensembl_gene_id\n"
    "HGNC:1\tNEWA\tOLDA|OLDB\t11\tENSG00000000011\n"
    "HGNC:2\tNEWB\tOLDB\t12\tENSG00000000012\n"
    "HGNC:3\tOLDC\t\t13\tENSG00000000013\n"
    "HGNC:4\tNEWC\tOLDC\t\t\n"
)


@pytest.fixture
def gene_map(tmp_path: Path) -> GeneMap:
    path = tmp_path / "hgnc.txt"
    path.write_text(HGNC)
    return read_gene_map(path)


def names(ids: list[str], gene_map: GeneMap | None = None, by: str = "symbol") -> list[str]:
    return clean_names(ids, gene_map or GeneMap(), by=by, path="t.csv").names


def test_symbols_with_ids() -> None:
    ids = ["TP53|7157", "CD3D (915)", "ENSG00000141510.17|TP53", "TP53 (ENSG00000141510)", "A|B"]
    assert names(ids) == ["TP53", "CD3D", "TP53", "TP53", "A|B"]
    assert names(ids[2:3], by="ensembl") == ["ENSG00000141510"]


def test_names_without_a_gene_are_left_out_with_the_reason() -> None:
    ids = ["CD3D", "?", "", "?|100130426", "1-Mar", "1-Mar", "44806", "100130426"]
    cleaned = clean_names(ids, GeneMap(), path="t.csv")
    assert cleaned.names == ["CD3D", *[""] * 7]
    assert [(row.gene, row.reason) for row in cleaned.left_out] == [
        ("?", NO_SYMBOL),
        ("", NO_SYMBOL),
        ("?|100130426", NO_SYMBOL),
        ("1-Mar", DATE),
        ("1-Mar", DATE),
        ("44806", DATE),
        ("100130426", NO_SYMBOL),
    ]
    assert cleaned.left_out[3].likely == "MARCHF1;MTARC1"


def test_an_id_without_a_symbol_is_an_ensembl_id_or_is_looked_up(gene_map: GeneMap) -> None:
    ids = ["CD3D", "?|11", "1-Mar|12", "?|ENSG00000000099", "?|ENSG00000000013.2"]
    assert names(ids, gene_map) == ["CD3D", "NEWA", "NEWB", "ENSG00000000099", "OLDC"]
    assert clean_names(ids, gene_map, path="t.csv").from_ids == 4


def test_previous_symbols_of_one_gene_are_replaced(gene_map: GeneMap) -> None:
    # OLDB was a symbol of two genes, and OLDC is an approved symbol today.
    cleaned = clean_names(["OLDA", "OLDB", "OLDC", "NEWB"], gene_map, path="t.csv")
    assert cleaned.names == ["NEWA", "OLDB", "OLDC", "NEWB"]
    assert [(gene.gene, gene.symbol) for gene in cleaned.renamed] == [("OLDA", "NEWA")]


def test_a_previous_symbol_stays_beside_the_approved_one(gene_map: GeneMap) -> None:
    # The two rows would become one gene, and their values would be summed.
    cleaned = clean_names(["OLDA", "NEWA"], gene_map, path="t.csv")
    assert cleaned.names == ["OLDA", "NEWA"]
    assert "1 previous symbol not replaced" in cleaned.rename_notes()[0]


def test_entrez_numbers_need_a_map(gene_map: GeneMap) -> None:
    with pytest.raises(InputError, match="names genes by Entrez numbers") as told:
        names(["11", "12", "13"])
    assert "--gene-map" in str(told.value)
    with pytest.raises(InputError, match="the gene map has none of them"):
        names(["91", "92"], gene_map)
    assert names(["11", "12.0", "99"], gene_map) == ["NEWA", "NEWB", ""]


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (["1007_s_at", "1053_at", "AFFX-BioB-3_at"], "probes of Affymetrix"),
        (["ILMN_1651228", "ILMN_1651229", "TP53"], "probes of Illumina"),
        (["Trp53", "Cd3d", "Gzmb"], "symbols of mouse or rat"),
        (["ENST00000269305.9", "ENST00000300692"], "Ensembl transcripts"),
    ],
)
def test_names_that_are_no_symbols_are_said(ids: list[str], kind: str) -> None:
    assert kind in clean_names(ids, GeneMap(), path="t.csv").note


def test_symbols_are_not_warned_of(gene_map: GeneMap) -> None:
    assert clean_names(["TP53", "CD3D", "C1orf112"], GeneMap(), path="t.csv").note == ""
    assert "no approved symbols" in clean_names(["X1", "X2", "NEWA"], gene_map, path="t.csv").note
