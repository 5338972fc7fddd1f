"""Covariates are aligned to the patients, and columns that cannot be used are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.covariate_table import read_covariates


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


COVARIATES = (
    "id,purity,subtype,constant,name,mixed\n"
    "a,0,x,1,n1,1\nb,0.5,x,1,n2,2\nc,0.7,x,1,n3,3\nd,0,y,1,n4,4\ne,0.2,y,1,n5,?\n"
    "f,,y,1,n6,5\ng,0.1,z,1,n7,6\n"
)
PATIENTS = ("g", "a", "b", "c", "d", "e", "f", "unknown")


def test_covariates_are_aligned_and_typed(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", COVARIATES)
    found, notes = read_covariates(path, PATIENTS, zero_unknown=["purity"])
    assert list(found.columns) == ["purity", "subtype"]
    assert tuple(found.index) == PATIENTS
    assert found["purity"].isna().tolist() == [False, True, False, False, True, False, True, True]
    assert found["subtype"].isna().tolist() == [
        True,
        False,
        False,
        False,
        False,
        False,
        False,
        True,
    ]  # z: one patient
    assert [note.split(",")[0].split(" has")[0] for note in notes] == [
        "column constant",
        "column name",
        "column mixed",
    ]
    zeros, _ = read_covariates(path, PATIENTS, ["purity"])
    assert zeros.loc["a", "purity"] == 0


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("constant", "column constant has 1 level"),
        ("name", "column name has no level"),
        ("mixed", r"column mixed, patient e: '\?' is not a number"),
        ("absent", "has no column absent"),
    ],
)
def test_bad_covariates(tmp_path: Path, column: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_covariates(write(tmp_path / "c.csv", COVARIATES), PATIENTS, [column])


def test_covariates_of_other_patients(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"has none of the patients: its first patient is 'a'.* is 'TCGA'"
    ):
        read_covariates(write(tmp_path / "c.csv", COVARIATES), ["TCGA"])
