"""Rows of samples become rows of patients; normals are left out, and differing rows are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.covariate_table import read_covariates
from tcgn_mil.patient_rows import is_normal, one_row_per_patient
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import read_clinical


def test_missing_values_in_the_same_cells_are_equal_rows() -> None:
    table = pd.DataFrame(
        {"age": [61, 61, 70], "stage": ["II", "II", None], "purity": [np.nan, np.nan, 0.4]},
        index=["TCGA-AA-0001-01A", "TCGA-AA-0001-01B", "person"],
    )
    rows, notes = one_row_per_patient(table, "t.csv")
    assert rows.index.tolist() == ["TCGA-AA-0001", "person"]
    assert len(notes) == 1
    assert "1 row left out, equal to an earlier row" in notes[0]


def test_plain_patients_stay_as_they_are() -> None:
    table = pd.DataFrame({"age": [1, 2]}, index=["b", "a"])
    rows, notes = one_row_per_patient(table, "t.csv")
    pd.testing.assert_frame_equal(rows, table)
    assert notes == ()


def test_differing_rows_name_their_samples_and_count_the_patients() -> None:
    names = ["TCGA-AA-0001-01A", "TCGA-AA-0001-06A", "TCGA-AA-0002-01A", "TCGA-AA-0002-01B"]
    with pytest.raises(InputError) as told:
        one_row_per_patient(pd.DataFrame({"x": range(4)}, index=names), "t.csv")
    assert "TCGA-AA-0001-01A, TCGA-AA-0001-06A" in str(told.value)
    assert "so have 1 other patients" in str(told.value)


def test_controls_and_cell_lines_are_no_tumours() -> None:
    names = [f"TCGA-AA-0001-{kind}" for kind in ("01", "06", "10", "11", "20", "50", "60")]
    assert [is_normal(name) for name in names] == [False, False, True, True, True, True, True]


def test_covariates_of_samples_join_their_patients(tmp_path: Path) -> None:
    path = tmp_path / "purity.csv"
    path.write_text(
        "sample,purity\nTCGA.AA.0001.01A,0.5\ntcga-aa-0002-01a-11r,0.7\nTCGA-AA-0001-11A,0\n"
    )
    covariates, notes = read_covariates(path, ["TCGA-AA-0002", "TCGA-AA-0001"])
    assert covariates["purity"].tolist() == [0.7, 0.5]
    assert "1 row of normal tissue or controls left out" in notes[0]


def test_clinical_tables_of_samples_count_patients_and_no_normals(tmp_path: Path) -> None:
    path = tmp_path / "clinical.csv"
    path.write_text(
        "id,time,dead\nTCGA.AA.0001.01A,10,1\nTCGA.AA.0001.11A,10,1\nTCGA.AA.0002.01A,20,0\n"
        "TCGA.AA.0003.11A,30,1\n"
    )
    options = ClinicalOptions(
        patient="id",
        times=("time",),
        events=("dead",),
        time_unit="days",
        event_coding="event",
        endpoints=("OS",),
    )
    table = read_clinical(path, options)
    assert table.outcomes["patient_id"].tolist() == ["TCGA-AA-0001", "TCGA-AA-0002"]
    assert "2 rows of normal tissue or controls left out" in table.notes[0]
    path.write_text("id,time,dead\nTCGA.AA.0001.11A,10,1\n")
    with pytest.raises(InputError, match="names only samples of normal tissue"):
        read_clinical(path, options)
