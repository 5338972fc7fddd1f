"""The shipped table of HGNC names Entrez ids and previous symbols, and merges no two rows."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import anndata
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.hgnc import gene_map as shipped
from tcgn_mil.hgnc.gene_map import shipped_gene_map
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.gene_map import read_gene_map
from tcgn_mil.preprocessing.bulk.gene_symbols import clean_names
from tcgn_mil.preprocessing.bulk.make_gene_map import write_shipped_map
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.signatures.gene_sets import GeneSet
from tcgn_mil.signatures.scores import score_signatures

# Rows of the forms of HGNC's complete set and of its custom downloads; the genes are made up.
COMPLETE = (
    "hgnc_id\tsymbol\tstatus\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\n"
    "HGNC:2\tNEWB\tApproved\tOLDD\tOLDB\t12\tENSG00000000012\n"
    "HGNC:1\tNEWA\tApproved\t\tOLDA|OLDB|OLDD\t11\tENSG00000000011\n"
    "HGNC:3\tGONE\tEntry Withdrawn\t\tOLDA\t13\t\n"
)
CUSTOM = (
    "Approved symbol\tStatus\tAlias symbols\tPrevious symbols\tNCBI Gene ID(supplied by NCBI)"
    "\tEnsembl gene ID\n"
    "NEWB\tApproved\tOLDD\tOLDB\t12\tENSG00000000012\n"
    "NEWA\tApproved\t\tOLDA, OLDB, OLDD\t11\tENSG00000000011\n"
    "GONE\tEntry Withdrawn\t\tOLDA\t13\t\n"
)


def names(ids: Sequence[str]) -> list[str]:
    return clean_names(ids, shipped_gene_map(), path="t.csv").names


def cohort(folder: Path, genes: Sequence[str], **settings: str) -> anndata.AnnData:
    table = pd.DataFrame(
        [[float(row * len(genes) + at) for at in range(len(genes))] for row in range(3)],
        columns=list(genes),
        index=pd.Index([f"P{row}" for row in range(3)], name="id"),
    )
    table.to_csv(folder / "bulk.csv")
    write_cohort(
        [folder / "bulk.csv"],
        None,
        folder / "cohort.h5ad",
        BulkConfig(unit="tpm-subset", format="samples-by-genes", **settings),
    )
    return anndata.read_h5ad(folder / "cohort.h5ad")


@pytest.mark.parametrize("text", [COMPLETE, CUSTOM])
def test_both_downloads_give_the_same_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "download.txt").write_text(text)
    contents = set()
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        write_shipped_map(tmp_path / "download.txt", folder, date="2024-07-23", origin="a test")
        contents.add((folder / shipped.TABLE).read_bytes())
    assert len(contents) == 1
    # OLDB was a symbol of two genes, OLDD is an alias of another one, GONE was withdrawn.
    assert gzip.decompress(contents.pop()).decode().splitlines()[1:] == [
        "NEWA\t11\tENSG00000000011\tOLDA",
        "NEWB\t12\tENSG00000000012\t",
    ]
    assert read_gene_map(tmp_path / "download.txt").renamed == {"OLDA": "NEWA"}


def test_the_shipped_table_states_its_origin_and_is_unambiguous() -> None:
    folder = Path(shipped.__file__).parent
    origin = json.loads((folder / shipped.ORIGIN).read_text())
    text = gzip.decompress((folder / shipped.TABLE).read_bytes()).decode()
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    assert "CC0" in origin["licence"]
    assert origin["date"] == shipped_gene_map().version == "2024-07-23"
    assert origin["genes"] == len(rows) == len(shipped_gene_map().approved)
    assert [row["symbol"] for row in rows] == sorted({row["symbol"] for row in rows})
    for column in ("entrez_id", "ensembl_gene_id"):
        stated = [row[column] for row in rows if row[column]]
        assert len(stated) == len(set(stated))
    previous = [name for row in rows for name in row["prev_symbol"].split("|") if name]
    assert len(previous) == len(set(previous)) == origin["previous_symbols"]
    assert not set(previous) & shipped_gene_map().approved


def test_signatures_find_genes_given_by_entrez_ids_and_by_bars(tmp_path: Path) -> None:
    sets = [GeneSet("T", "", ("CD3D", "CD3E", "CD8A"))]
    for genes in (
        ("915", "916", "925", "7157"),
        ("CD3D|915", "?|916", "CD8A (925)", "TP53|7157"),
        ("ENSG00000167286.10", "ENSG00000198851", "ENSG00000153563", "ENSG00000141510"),
    ):
        table = cohort(tmp_path, genes)
        assert list(table.var_names) == ["CD3D", "CD3E", "CD8A", "TP53"]
        assert score_signatures(table.X, list(table.var_names), sets).names == ("T",)


def test_the_cohort_says_what_named_its_genes(tmp_path: Path) -> None:
    table = cohort(tmp_path, ("MARS", "TP53", "CD3D", "C9orf47", "S1PR3"))
    # HGNC has withdrawn C9orf47, which is S1PR3 now: the two rows would be summed into one gene.
    assert list(table.var_names) == ["MARS1", "TP53", "CD3D", "C9orf47", "S1PR3"]
    stated = json.loads(table.uns["tcgn_mil"])["gene_map"]
    assert stated == json.loads((tmp_path / "join_summary.json").read_text())["gene_map"]
    assert (stated["name"], stated["version"]) == ("HGNC", "2024-07-23")
    assert stated["sha256"] == shipped_gene_map().digest
    assert (stated["previous_symbols_replaced"], stated["previous_symbols_kept"]) == (1, 1)
    renamed = pd.read_csv(tmp_path / "genes_renamed.csv")
    assert renamed.to_dict("records") == [
        {"table": "bulk.csv", "gene": "MARS", "symbol": "MARS1", "renamed": True},
        {"table": "bulk.csv", "gene": "C9orf47", "symbol": "S1PR3", "renamed": False},
    ]


def test_no_map_leaves_names_as_they_are(tmp_path: Path) -> None:
    table = cohort(tmp_path, ("MARS", "TP53"), gene_map="none")
    assert list(table.var_names) == ["MARS", "TP53"]
    assert json.loads(table.uns["tcgn_mil"])["gene_map"]["name"] == "none"


def test_an_id_beside_the_symbol_decides() -> None:
    # DBC1 was the symbol of BRINP1, and is an alias of CCAR2.
    assert names(["DBC1", "TP53"]) == ["DBC1", "TP53"]
    assert names(["DBC1|1620", "TP53|7157"]) == ["BRINP1", "TP53"]


def test_a_name_whose_rows_have_ids_of_several_genes_stays() -> None:
    ids = ["SLC35E2|728661", "SLC35E2|9906", "TP53|7157"]
    cleaned = clean_names(ids, shipped_gene_map(), path="t.csv")
    assert cleaned.names == ["SLC35E2", "SLC35E2", "TP53"]
    assert [(gene.symbol, gene.renamed) for gene in cleaned.renamed] == [
        ("SLC35E2A;SLC35E2B", False)
    ]


def test_two_previous_symbols_of_one_gene_stay_apart() -> None:
    both = ["A1BGAS", "NCRNA00181", "TP53", "CD3D"]
    assert {shipped_gene_map().renamed[name] for name in both[:2]} == {"A1BG-AS1"}
    assert names(both) == both


def test_genes_of_the_mouse_are_not_renamed() -> None:
    assert names(["T", "TP53"]) == ["TBXT", "TP53"]
    assert names(["T", "Trp53", "Cd3d", "Gzmb"]) == ["T", "Trp53", "Cd3d", "Gzmb"]


@pytest.mark.parametrize("first", [0, 1])
def test_positions_are_no_entrez_ids(first: int) -> None:
    with pytest.raises(InputError, match="are positions and no Entrez ids"):
        names([str(number) for number in range(first, 200)])


def test_numbers_that_are_mostly_no_human_genes_are_refused() -> None:
    with pytest.raises(InputError, match="2 of 3 of them are no Entrez ids of human genes"):
        names(["7157", "7892501", "7892502"])


def test_gene_names_of_a_source_are_replaced_by_their_id(tmp_path: Path) -> None:
    """GDC states ids and the symbols of an older annotation."""
    from tcgn_mil.preprocessing.bulk.expression_table import ExpressionTable
    from tcgn_mil.preprocessing.bulk.genes import with_symbols

    ids = ["ENSG00000166986.15", "ENSG00000141510.17", "ENSG00000999999.1"]
    table = ExpressionTable(
        pd.DataFrame([[1.0, 2.0, 3.0]], columns=ids), "gdc", symbols=("MARS", "TP53", "AC0001.1")
    )
    named, cleaned = with_symbols(table, shipped_gene_map(), by="symbol", path=tmp_path / "t")
    assert named.symbols == ("MARS1", "TP53", "AC0001.1")
    assert [gene.gene for gene in cleaned.renamed] == ["MARS"]
