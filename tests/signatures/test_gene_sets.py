"""Gene sets: reading files and folders, errors with the line, and adding sets from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.signatures.gene_sets import (
    GeneSet,
    load_gene_sets,
    read_gene_sets,
    shipped_gene_set_files,
)
from tcgn_mil.signatures.scores import score_signatures


def gmt(folder: Path, text: str | bytes) -> Path:
    path = folder / "sets.gmt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_sets_come_by_name_in_the_files_order(tmp_path: Path) -> None:
    sets = read_gene_sets(gmt(tmp_path, "T\thttp://x\tCD3D\tCD8A\nB\t\tMS4A1\n"))
    assert list(sets) == ["T", "B"]
    assert sets["T"] == GeneSet("T", "http://x", ("CD3D", "CD8A"))
    assert sets["B"] == GeneSet("B", "", ("MS4A1",))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_marks_blank_lines_and_empty_fields_do_not_matter(
    tmp_path: Path, end: str
) -> None:
    text = end.join(["\ufeffT cells\tna\tCD3D\t\t CD8A \t", "", "\t \t", "B\tna\tMS4A1", ""])
    sets = read_gene_sets(gmt(tmp_path, text))
    assert {name: found.genes for name, found in sets.items()} == {
        "T cells": ("CD3D", "CD8A"),
        "B": ("MS4A1",),
    }


def test_a_gene_that_a_set_repeats_counts_once(tmp_path: Path) -> None:
    assert read_gene_sets(gmt(tmp_path, "T\tna\tCD8A\tCD3D\tCD8A"))["T"].genes == ("CD8A", "CD3D")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("T\tna\tCD3D\nT\tna\tCD8A\n", "line 2: set 'T' appears twice"),
        ("A\tna\tCD4\n\nT\tna\n", "line 3: set 'T' has no genes"),
        ("T\tna\t\t\n", "line 1: set 'T' has no genes"),
        ("T,na,CD3D\n", "line 1: set 'T,na,CD3D' has no genes"),
        ("\tna\tCD3D\n", "line 1: the set has no name"),
        ("\n \n", "holds no gene set"),
        (b"\x1f\x8b\x08\x00\xff", "cannot be read as text"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, reason: str
) -> None:
    path = gmt(tmp_path, text)
    with pytest.raises(InputError, match=reason) as caught:
        read_gene_sets(path)
    assert caught.value.path == str(path)
    assert caught.value.fix


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file of gene sets"):
        read_gene_sets(tmp_path / "none.gmt")


def test_a_table_has_a_set_in_each_column(tmp_path: Path) -> None:
    table = tmp_path / "sets.csv"
    table.write_bytes("\ufeffONE,TWO\r\nA,B\r\nC,\r\n".encode())
    assert {name: one.genes for name, one in read_gene_sets(table).items()} == {
        "ONE": ("A", "C"),
        "TWO": ("B",),
    }
    (tmp_path / "sets.tsv").write_text("ONE\tTWO\nA\tB\nC\n")  # the last row is shorter
    assert read_gene_sets(tmp_path / "sets.tsv")["ONE"].genes == ("A", "C")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A,A\nx,y\n", "set A appears twice"),
        ("A,B\nx,\n", r"column 2 \(B\) has no genes"),
        ("A,\nx,y\n", "column 2 has no name"),
        ("", "holds no gene set"),
    ],
)
def test_mistakes_in_a_table_are_named_with_their_column(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InputError, match=reason):
        read_gene_sets(tmp_path / "bad.csv")


def test_every_gmt_file_of_the_package_is_shipped() -> None:
    import tcgn_mil.signatures.gene_sets as module

    folder = Path(module.__file__).parent / "sets"
    assert set(shipped_gene_set_files()) == {*folder.glob("*.gmt")} != set()
    assert "CYTOLYTIC_ACTIVITY" in load_gene_sets()
    assert load_gene_sets(shipped=False) == {}


def test_door_sets_from_outside_join_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "stroma.gmt").write_text("STROMA\tmy markers\tCOL1A1\tFAP\n")
    (tmp_path / "more.csv").write_text("VESSELS\nPECAM1\nVWF\n")
    sets = load_gene_sets([tmp_path])
    assert list(sets)[-2:] == ["VESSELS", "STROMA"]  # a folder's files come in alphabetical order
    values = np.arange(6.0).reshape(3, 2)
    scores = score_signatures(values, ["COL1A1", "FAP"], sets)
    assert scores.names == ("STROMA",)


def test_door_names_of_sets_are_unique_over_files(tmp_path: Path) -> None:
    (tmp_path / "a.gmt").write_text("IFNG_6\tx\tA\n")
    with pytest.raises(InputError, match="IFNG_6 has the name of a set that was loaded before"):
        load_gene_sets([tmp_path / "a.gmt"])
    (tmp_path / "b.gmt").write_text("IFNG_6\tx\tB\n")
    with pytest.raises(InputError, match=r"b\.gmt: set IFNG_6 has the name"):
        read_gene_sets(tmp_path)


def test_a_folder_without_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no file of gene sets"):
        read_gene_sets(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "T\tCD3D\tCD3E\nB\tMS4A1\tCD19\n",  # symbols with numbers
        "T\tna\tPTPRC\tFAP\nB\tFAP\tPDPN\n",  # a gene of another set
        "T\t915\t916\t917\n",  # Entrez ids
        "T\tENSG00000167286\tENSG00000198851\n",
    ],
)
def test_a_set_without_description_does_not_lose_its_first_gene(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"where its description should be.*Fix: .* na, "):
        read_gene_sets(gmt(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "T\tM5890\tCD3D\nB\tM5891\tMS4A1\n",  # MSigDB
        "T\tGSE12345\tCD3D\nB\tR-HSA-109582\tMS4A1\n",
        "T\tT\tCD3D\nB2M\tB2M\tB2M\tHLA-A\n",  # the name, or a gene of the set itself
        "T\tKEGG\tCD3D\nB\tKEGG\tMS4A1\n",
    ],
)
def test_descriptions_of_public_collections_are_no_genes(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(read_gene_sets(gmt(tmp_path, text))) == 2
    assert not capsys.readouterr().err


def test_a_word_that_may_be_a_gene_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_gene_sets(gmt(tmp_path, "STROMA\tFAP\tCOL1A1\tFN1\n"))
    assert "line 1: FAP is read as the description of set STROMA" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz", "s.tsv", "s.parquet"])
def test_tables_of_sets_in_all_their_forms(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame({"ONE": ["A", "C"], "TWO": ["B", None]})
    path = tmp_path / name
    if name == "s.parquet":
        table.to_parquet(path)
    elif name == "s.csv":
        table.to_csv(path, sep=";", index=False)
    else:  # with saved row numbers
        table.to_csv(path, sep="\t" if ".tsv" in name else ",")
    expected = {"ONE": ("A", "C"), "TWO": ("B",)}
    assert {name: found.genes for name, found in read_gene_sets(path).items()} == expected
