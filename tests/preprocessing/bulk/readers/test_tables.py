"""Expression tables of every layout come out as samples x genes, or name what is wrong."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables import text_file as table_files
from tcgn_mil.preprocessing.bulk import readers
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionRequest, ExpressionTable
from tcgn_mil.preprocessing.bulk.readers import read_expression_table, register_expression_reader
from tcgn_mil.preprocessing.bulk.readers.base import ExpressionReader

EXPECTED = pd.DataFrame(
    np.array([[1, 2.5, 0], [3, 4, 5]], dtype=np.float32),
    index=["TCGA-AA-0001-01A", "TCGA-AA-0002-01A"],
    columns=["TP53", "CD3D", "MKI67"],
)
TEXT = EXPECTED.to_csv()


def save(tmp_path: Path, text: str | bytes, name: str = "bulk.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def check(path: Path, **options: object) -> None:
    pd.testing.assert_frame_equal(read_expression_table(path, **options).values, EXPECTED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", TEXT.encode()),
        ("a.tsv", TEXT.replace(",", "\t").encode()),
        ("a.txt", TEXT.replace(",", ";").encode()),
        ("a.tsv.gz", gzip.compress(TEXT.replace(",", "\t").encode(), mtime=0)),
        ("spreadsheet.csv", b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()),
        ("from_r.csv", TEXT.removeprefix(",").encode()),
        ("quoted.csv", TEXT.replace("TP53", '"TP53"').encode()),
        ("genes_down.csv", EXPECTED.T.to_csv().encode()),
    ],
)
def test_layout_separator_and_packing_do_not_matter(
    tmp_path: Path, name: str, content: bytes
) -> None:
    check(save(tmp_path, content, name))


def test_zip_may_hold_what_macos_adds(tmp_path: Path) -> None:
    path = tmp_path / "bulk.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bulk.csv", TEXT)
        archive.writestr("__MACOSX/._bulk.csv", "x")
    check(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("second.csv", TEXT)
    with pytest.raises(InputError, match=r"bulk.csv.zip: holds 2 files"):
        read_expression_table(path)


def test_parquet_with_and_without_a_stored_index(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    EXPECTED.to_parquet(tmp_path / "index.parquet")
    EXPECTED.rename_axis("sample").reset_index().to_parquet(tmp_path / "plain.parquet")
    EXPECTED.T.to_parquet(tmp_path / "down.parquet")
    for name in ("index", "plain", "down"):
        check(tmp_path / f"{name}.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "plain.parquet").read_bytes()[:200])
    with pytest.raises(InputError, match=r"cut.parquet: cannot be read as a complete Parquet file"):
        read_expression_table(tmp_path / "cut.parquet")


def test_known_patients_tell_rows_from_columns(tmp_path: Path) -> None:
    path = save(tmp_path, "gene,7,007\nA,1,2\nB,3,4\n")
    table = read_expression_table(path, patients={"7", "007"}).values
    assert table.index.tolist() == ["7", "007"]
    assert table.loc["007"].to_dict() == {"A": 2, "B": 4}


def test_the_orientation_is_said_and_can_be_stated(tmp_path: Path) -> None:
    down, across = (
        save(tmp_path, TEXT, "down.csv"),
        save(tmp_path, EXPECTED.T.to_csv(), "across.csv"),
    )
    assert read_expression_table(down).layout == "samples-by-genes"
    assert read_expression_table(across).layout == "genes-by-samples"
    unclear = save(tmp_path, "gene,p1,p2\nA,1,2\nB,3,4\n")
    assert read_expression_table(unclear, layout="samples-by-genes").values.columns.tolist() == [
        "p1",
        "p2",
    ]
    stated = read_expression_table(unclear, layout="genes-by-samples")
    assert stated.values.loc["p2"].to_dict() == {"A": 2, "B": 4}


def test_ids_that_do_not_tell_the_orientation_ask_for_it(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"its rows are A, B, its columns p1, p2, none of them a known patient"
    ) as told:
        read_expression_table(save(tmp_path, "gene,p1,p2\nA,1,2\nB,3,4\n"))
    assert "--format samples-by-genes or genes-by-samples" in str(told.value)


def test_ensembl_ids_are_genes(tmp_path: Path) -> None:
    ids = "ENSG00000141510.17", "ENSG00000002586.20"
    down = save(tmp_path, f"sample,p1,p2\n{ids[0]},1,2\n{ids[1]},3,4\n", "down.csv")
    across = save(tmp_path, f"id,{ids[0]},{ids[1]}\np1,1,3\np2,2,4\n", "across.csv")
    for path in (down, across):
        assert read_expression_table(path).values.loc["p2", list(ids)].tolist() == [2, 4]


def test_a_stated_layout_may_not_contradict_the_ids(tmp_path: Path) -> None:
    turned = save(tmp_path, EXPECTED.T.to_csv())
    with pytest.raises(
        InputError, match=r"bulk\.csv: is said to be samples-by-genes, but its rows are TP53, CD3D"
    ) as told:
        read_expression_table(turned, layout="samples-by-genes")
    assert "--format genes-by-samples" in str(told.value)
    with pytest.raises(
        InputError, match=r"is said to be genes-by-samples, but its rows are TCGA-AA-0001-01A"
    ):
        read_expression_table(save(tmp_path, TEXT), layout="genes-by-samples")


def test_ids_are_text_as_written(tmp_path: Path) -> None:
    path = save(tmp_path, "id,A\n007,1\nNA,2\n1e5,3\n")
    assert read_expression_table(path, layout="samples-by-genes").values.index.tolist() == [
        "007",
        "NA",
        "1e5",
    ]


def test_sequoia_layout(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        "wsi_file_name,patient_id,rna_A,rna_NKX2-1,tcga_project\ns1,P1,1,2,X\ns2,P1,1,2,X\n",
    )
    table = read_expression_table(path).values
    assert table.index.tolist() == ["P1", "P1"]
    assert table.columns.tolist() == ["A", "NKX2-1"]


def test_porpoise_layout(tmp_path: Path) -> None:
    path = save(
        tmp_path, ",case_id,slide_id,age,A_cnv,A_rnaseq,B_rnaseq\n0,P1,s.svs,50,-1,0.5,-0.5\n"
    )
    table = read_expression_table(path).values
    assert table.loc["P1"].to_dict() == {"A": 0.5, "B": -0.5}


def test_missing_values_stay_missing(tmp_path: Path) -> None:
    table = read_expression_table(
        save(tmp_path, "id,A,B\np,NA,1\nq,,2\n"), layout="samples-by-genes"
    ).values
    assert table["A"].isna().all()
    assert table["B"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,A,B\np,1,2\nq,high,3\n", "column A, row q: 'high' is not a number"),
        (
            "gene,TCGA-AA-0001,TCGA-AA-0001\nA,1,2\nB,x,4\n",
            "column TCGA-AA-0001, row B: 'x' is not a number",
        ),
        ("id,A\np,True\nq,False\n", "column A, row p: 'True' is not a number"),
        ("id,A,B\np,1,inf\n", "column B, row p is infinite"),
        ("id,A,B\n,1,2\n", "row 2 has no id"),
        ("id,A\n", "holds no rows below a header"),
        ("", "holds no rows below a header"),
        ("id\np\n", "has one column only"),
        ("id,A,B\np,1,2,3,4\n", "line 2 has 5 cells under 3 columns"),
        ("id,A,B\np,1,2\nq,1,2,3\n", "line 3 has 4 cells under 3 columns"),
        ('id,A,B\np,1,2\n"q,1",2\n', "line 3 has 2 cells under 3 columns"),
        (b"id,A\n\xff\xfe,1\n", "cannot be read as a table"),
    ],
)
def test_a_faulty_table_is_named_with_its_fault(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_expression_table(save(tmp_path, text), patients={"p", "q"})
    assert message in str(caught.value)
    assert "bulk.csv: " in str(caught.value)
    assert " Fix: " in str(caught.value)


def test_layouts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, TEXT)
    with pytest.raises(InputError, match="has no column patient_id"):
        read_expression_table(path, layout="sequoia")
    with pytest.raises(InputError, match=r"unknown layout 'long'.*porpoise"):
        read_expression_table(path, layout="long")
    with pytest.raises(InputError, match=r"has no column \*_rnaseq"):
        read_expression_table(save(tmp_path, "case_id,age\nP1,50\n"), layout="porpoise")


def test_missing_cut_off_and_oversized_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no such table"):
        read_expression_table(tmp_path / "none.csv")
    packed = gzip.compress(TEXT.encode() * 50)
    with pytest.raises(InputError, match="cannot be read as a table"):
        read_expression_table(save(tmp_path, packed[:-30], "cut.csv.gz"))
    monkeypatch.setattr(table_files, "MAX_TABLE_BYTES", 100)
    for path in (save(tmp_path, packed, "bomb.csv.gz"), save(tmp_path, TEXT * 5)):
        with pytest.raises(InputError, match="unpacks to more than"):
            read_expression_table(path)


@pytest.mark.realdata
def test_the_sequoia_reference_file(real_data: Path) -> None:
    table = read_expression_table(real_data / "tcga_expression" / "sequoia_ref_file.csv").values
    assert table.shape == (5, 20820)
    assert table.index.nunique() == 3
    sums = (2 ** table.astype(np.float64) - 1).sum(axis=1)
    assert sums.between(2.5e5, 3.1e5).all()


@pytest.mark.realdata
def test_survpath_and_porpoise_tables(real_data: Path) -> None:
    folder = real_data / "tcga_expression"
    coadread = read_expression_table(folder / "survpath_xena_coadread_rna_clean.csv").values
    assert coadread.shape == (320, 1577)
    assert coadread.index.nunique() == 317
    brca = read_expression_table(folder / "tcga_brca_all_clean.csv.zip").values
    assert brca.shape == (1022, 1558)
    assert brca.index.nunique() == 956


@patch.dict(readers.READERS)
def test_door_a_layout_is_added_from_outside(tmp_path: Path) -> None:
    def read(path: Path, request: ExpressionRequest) -> ExpressionTable:
        return ExpressionTable(pd.read_json(path, orient="index"), request.layout)

    register_expression_reader(
        ExpressionReader(("json",), lambda path: path.suffix == ".json", read)
    )
    (tmp_path / "bulk.json").write_text('{"p1": {"CD3D": 1, "TP53": 2}}')
    table = read_expression_table(tmp_path / "bulk.json")
    assert table.layout == "json"
    assert table.values.loc["p1"].to_dict() == {"CD3D": 1, "TP53": 2}
