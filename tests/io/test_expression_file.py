"""Expression of patients is read from tables and .h5ad files, and errors are refused."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.expression_file import read_expression


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("separator", [",", "\t", ";"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zip"])
def test_delimited_tables(tmp_path: Path, separator: str, suffix: str) -> None:
    frame = pd.DataFrame({"GZMA": [1.5, 2], "HLA-A": [np.nan, 3]}, index=["007", "008"])
    frame.to_csv(tmp_path / f"t{suffix}", sep=separator)
    found = read_expression(tmp_path / f"t{suffix}")
    assert found.patients == ("007", "008")
    assert found.genes == ("GZMA", "HLA-A")
    np.testing.assert_equal(found.values, frame.to_numpy())


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame(
        {"A": [1.0, 2], "B": [3.0, 4]}, index=pd.Index(["p", "q"], name="patient_id")
    )
    frame.to_parquet(tmp_path / "named.parquet")
    frame.reset_index().to_parquet(tmp_path / "column.parquet")
    for name in ("named", "column"):
        found = read_expression(tmp_path / f"{name}.parquet")
        assert (found.patients, found.genes) == (("p", "q"), ("A", "B"))


def test_predictions_out_of_fold(tmp_path: Path) -> None:
    adata = anndata.AnnData(
        np.ones((3, 2), np.float32),
        obs=pd.DataFrame({"fold": [2, 7, 2]}, index=["p", "q", "r"]),
        var=pd.DataFrame(
            {"predictable": [True, False], "r_model": [0.3, np.nan]}, index=["A", "B"]
        ),
    )
    adata.layers["truth"] = np.array([[1, np.nan], [2, 3], [4, 5]], np.float32)
    adata.uns["tcgn_mil"] = json.dumps({"unit": "log2(TPM + 1)"})
    adata.write_h5ad(tmp_path / "p.h5ad")
    found = read_expression(tmp_path / "p.h5ad")
    assert found.unit == "log2(TPM + 1)"
    assert found.folds.tolist() == [0, 1, 0]
    assert found.predictable.tolist() == [True, False]
    assert found.r[0] == 0.3
    assert np.isnan(found.truth[0, 1])
    adata.obs["fold"] = [2, np.nan, 2]
    adata.write_h5ad(tmp_path / "q.h5ad")
    with pytest.raises(InputError, match="patient q has no fold"):
        read_expression(tmp_path / "q.h5ad")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,A\np,1\np,2\n", "patient p has several rows with different values"),
        (
            "id,A\nTCGA-AA-0001-01A,1\nTCGA.AA.0001.06A,2\n",
            r"patient TCGA-AA-0001 has several rows .*TCGA.AA.0001.06A",
        ),
        ("id,A\nTCGA-AA-0001-11A,1\n", "holds only normal tissue"),
        ("id,A\np,1\n,2\n", "row 3 has no id in column 'id'"),
        ("id,A,A\np,1,2\n", "column A appears more than once"),
        ("id,A\np,1\nq,high\n", "column A, patient q: 'high' is not a number"),
        ("id,A\np,1\nq,inf\n", "gene A of patient q is infinite"),
        ("id\np\n", "holds no values"),
        ("", "holds no rows below a header"),
    ],
)
def test_bad_expression(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_expression(write(tmp_path / "t.csv", text))


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_expression(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot be read as AnnData"):
        read_expression(write(tmp_path / "t.h5ad", "text"))


@pytest.mark.parametrize("name", ["", "NA", "nan", "None"])
def test_a_row_without_a_patient_is_named(tmp_path: Path, name: str) -> None:
    table = write(tmp_path / "t.csv", f"patient,G1\nP1,1\n{name},2\n")
    with pytest.raises(InputError, match=r"t\.csv: row 3 (names no patient|has no id)"):
        read_expression(table)


@pytest.mark.parametrize("suffix", [".csv", ".h5ad"])
def test_samples_are_read_as_their_patients(tmp_path: Path, suffix: str) -> None:
    names = ["tcga.aa.0001.01a.11r", "TCGA-AA-0002-11A", "TCGA-AA-0003-06", "C3L-00004.T"]
    table = pd.DataFrame({"A": [1.0, 2, 3, 4, 1]}, index=[*names, "TCGA-AA-0001"])
    path = tmp_path / f"t{suffix}"
    if suffix == ".csv":
        table.to_csv(path)
    else:
        anndata.AnnData(table).write_h5ad(path)
    read = read_expression(path)
    assert read.patients == ("TCGA-AA-0001", "TCGA-AA-0003", "C3L-00004")
    assert read.values[:, 0].tolist() == [1, 3, 4]
    assert "1 row of normal tissue or controls left out" in read.notes[0]
    assert "equal to an earlier row of the same patient" in read.notes[1]
