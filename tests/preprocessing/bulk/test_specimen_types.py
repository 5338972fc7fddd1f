"""Sample type, vial and preservation of a cohort's patients, and what is said about mixtures."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.covariate_table import read_covariates
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.expression_table import Person
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.bulk.specimen_types import Kept, describe_specimens, specimen_notes
from tcgn_mil.preprocessing.bulk.specimens import sample_specimens
from tcgn_mil.preprocessing.slides.table import SlideEntry

PATIENTS = [f"TCGA-AA-{number:04d}" for number in range(1, 9)]


def test_the_cohort_keeps_and_says_the_types(tmp_path: Path) -> None:
    kinds = ["01A", "01A", "01B", "06A", "06A", "06A", "06A"]
    samples = [f"{name}-{kind}" for name, kind in zip(PATIENTS, kinds, strict=False)]
    values = np.random.default_rng(0).uniform(size=(len(samples), 3))
    table = tmp_path / "bulk.csv"
    pd.DataFrame(values, index=samples, columns=["A", "B", "C"]).to_csv(table)
    slides = [SlideEntry(f"{sample[:15]}Z-00-DX1", sample[:12], table) for sample in samples]
    summary = write_cohort([table], slides, tmp_path / "cohort.h5ad", BulkConfig(unit="fpkm"))
    assert summary.sample_types == {"metastasis": 4, "primary tumour": 3}
    assert any(
        "mixes sample types (metastasis 4, primary tumour 3" in note for note in summary.notes
    )
    made = json.loads((tmp_path / "join_summary.json").read_text())
    assert made["join"]["sample_types"] == summary.sample_types
    obs = anndata.read_h5ad(tmp_path / "cohort.h5ad").obs
    assert obs["vial"].tolist() == ["A", "A", "B", "A", "A", "A", "A"]
    assert set(obs["slide_preparation"]) == {"diagnostic"}
    covariates, _ = read_covariates(tmp_path / "cohort.h5ad", PATIENTS[:7], ["sample_type"])
    assert covariates["sample_type"].tolist() == ["primary tumour"] * 3 + ["metastasis"] * 4


def test_the_sample_sheet_tells_ffpe_and_replicates_are_said() -> None:
    people = [
        Person(PATIENTS[0], True, 1, "FFPE"),
        Person(PATIENTS[0], True, 1, "OCT"),
        Person(PATIENTS[1], True, 1, "--"),
    ]
    names = [f"{PATIENTS[0]}-01B", f"{PATIENTS[0]}-01A", f"{PATIENTS[1]}-01A"]
    samples = sample_specimens(names, [b"1", b"2", b"3"], people)
    types = describe_specimens(PATIENTS[:2], Kept([], samples))
    assert types["preservation"].tolist() == ["FFPE and OCT", "not stated"]
    notes = specimen_notes(types, [2, 1])
    assert "1 patient with expression of an FFPE sample" in notes[0]
    assert "1 patient with several samples of one type, which were averaged; 1 of them" in notes[1]


def test_vial_z_is_ffpe() -> None:
    samples = sample_specimens([f"{PATIENTS[0]}-01Z"], [b"1"])
    assert describe_specimens(PATIENTS[:1], Kept([], samples))["preservation"].tolist() == ["FFPE"]


def test_a_cohort_of_one_type_needs_no_note() -> None:
    samples = sample_specimens([f"{name}-01A" for name in PATIENTS], [b"x"] * len(PATIENTS))
    types = describe_specimens(PATIENTS, Kept([], samples))
    assert specimen_notes(types, [1] * len(PATIENTS)) == []


def test_numbered_samples_of_cptac_are_not_averaged() -> None:
    with pytest.raises(InputError, match="do not say which are of normal tissue"):
        sample_specimens(["C3L-00001-01", "C3L-00001-06"], [b"1", b"2"])
    named = sample_specimens(["C3L-00001-T", "C3L-00001.N", "C3N-00002-03"], [b"1", b"2", b"3"])
    assert [sample.is_tumour for sample in named] == [True, False, True]
    assert [sample.patient_id for sample in named] == ["C3L-00001", "C3L-00001", "C3N-00002"]
