"""Decimal commas are read by one rule where nothing else can be meant, and are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.covariate_table import read_covariates
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import read_clinical

PATIENTS = [f"P{row}" for row in range(4)]


def covariates(folder: Path, cells: list[str], separator: str = ";") -> Path:
    rows = [separator.join((name, cell)) for name, cell in zip(PATIENTS, cells, strict=True)]
    path = folder / "covariates.csv"
    path.write_text("\n".join([f"id{separator}purity", *rows]) + "\n")
    return path


@pytest.mark.parametrize("separator", [";", "\t"])
def test_covariates_with_decimal_commas_are_numbers_and_are_named(
    tmp_path: Path, separator: str
) -> None:
    path = covariates(tmp_path, ["0,4", "NA", "1", "1,500"], separator)
    table, notes = read_covariates(path, PATIENTS, ["purity"])
    assert table["purity"].dropna().tolist() == [0.4, 1.0, 1.5]
    assert notes == ["covariates.csv: the commas in column purity are read as decimal points"]


@pytest.mark.parametrize(
    "cells",
    [
        ["0,4", "0.5", "1", "2"],  # a point beside a comma
        ["1,500", "2,250", "1,000", "3"],  # thousands
    ],
)
def test_doubtful_commas_are_refused(tmp_path: Path, cells: list[str]) -> None:
    with pytest.raises(InputError, match=r"column purity, patient P0: .* is not a number"):
        read_covariates(covariates(tmp_path, cells), PATIENTS, ["purity"])


def test_commas_in_a_table_separated_by_commas_are_refused(tmp_path: Path) -> None:
    path = covariates(tmp_path, ['"0,4"', '"0,5"', '"1"', '"2"'], ",")
    with pytest.raises(InputError, match="patient P0: '0,4' is not a number"):
        read_covariates(path, PATIENTS, ["purity"])


def test_clinical_times_and_covariates_may_have_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "clinical.csv"
    path.write_text("id;months;dead;age\na;1,5;1;61,5\nb;20,25;0;70\n")
    options = ClinicalOptions(
        patient="id",
        times=("months",),
        events=("dead",),
        endpoints=("OS",),
        covariates=("age",),
        time_unit="months",
        month_days=30,
        event_coding="event",
    )
    table = read_clinical(path, options, requested_layout="columns")
    assert table.outcomes["time_days"].tolist() == [45.0, 607.5]
    assert table.covariates["age"].tolist() == ["61.5", "70"]
    assert table.notes[0].endswith("the commas in columns months, age are read as decimal points")
