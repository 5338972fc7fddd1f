"""Numbers that are written as text are numbers, or are refused or named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.covariate_table import read_covariates
from tcgn_mil.io.tables.text_numbers import numbers_or_text


def column(*cells: str | None) -> pd.Series:
    return pd.Series(cells, index=[f"P{row}" for row in range(len(cells))])


def test_words_for_missing_values_stand_among_numbers() -> None:
    parsed = numbers_or_text(column("1", "NA", "[Not Available]", "2.5", None, "'--"), "x")
    assert parsed.values.dropna().tolist() == [1.0, 2.5]
    assert not parsed.note


@pytest.mark.parametrize(
    ("cells", "wrong", "fix"),
    [
        (("0,4", "0,5", "0,6"), "P0: '0,4'", "decimal point"),
        (("30%", "40 %", "50%"), "P0: '30%'", "per cent"),
        (("7.5", "<5", "6.1"), "P1: '<5'", "the number that the analysis should use"),
        (("1", "2", "3", "?"), "P3: '\\?'", "leave it empty"),
    ],
)
def test_numbers_in_another_form_are_refused(cells: tuple[str, ...], wrong: str, fix: str) -> None:
    with pytest.raises(InputError, match=f"column x, patient {wrong} is not a number.*{fix}"):
        numbers_or_text(column(*cells), "x")


def test_groups_by_a_bound_are_categories_with_a_word() -> None:
    parsed = numbers_or_text(column("<50", ">=50", "<50"), "age")
    assert parsed.values.tolist() == ["<50", ">=50", "<50"]
    assert parsed.note == "column age holds <50, >=50, and is read as categories, not as numbers"
    assert not numbers_or_text(column("II", "III"), "stage").note


@pytest.mark.parametrize("form", ["row numbers", "r", "blanks", "semicolons", "gz", "bom", "pq"])
def test_one_table_in_all_its_forms(tmp_path: Path, form: str) -> None:
    patients = [f"P{row}" for row in range(8)]
    table = pd.DataFrame(
        {"patient_id": patients, "purity": [0.1 * row for row in range(8)], "arm": list("AABBAABB")}
    )
    path = tmp_path / {"gz": "c.csv.gz", "pq": "c.parquet"}.get(form, "c.csv")
    if form == "row numbers":
        table.to_csv(path)
    elif form == "r":  # the header is one name shorter than the rows
        rows = [f"{row.patient_id}\t{row.purity}\t{row.arm}" for row in table.itertuples()]
        path.write_text("\n".join(["purity\tarm", *rows]) + "\n")
    elif form == "blanks":
        rows = [f'"{row.patient_id}" {row.purity} "{row.arm}"' for row in table.itertuples()]
        path.write_text("\n".join(['"purity" "arm"', *rows]) + "\n")
    elif form == "semicolons":
        table.to_csv(path, sep=";", index=False)
    elif form == "pq":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, encoding="utf-8-sig" if form == "bom" else "utf-8")
    covariates, notes = read_covariates(path, patients)
    assert covariates["purity"].tolist() == pytest.approx(table["purity"].tolist())
    assert covariates["arm"].tolist() == table["arm"].tolist()
    assert not notes


def test_patients_may_be_numbered(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(",age,dose\n0,60,1.5\n1,61,2.5\n2,62,3.5\n")
    covariates, _ = read_covariates(path, ["0", "1", "2"])
    assert covariates["age"].tolist() == [60, 61, 62]


def test_a_column_without_a_value_for_the_cohort_says_so(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("id,age,stage\na,1,\nb,2,NA\nc,3,\nother,4,II\n")
    with pytest.raises(InputError, match="column stage has no value for any of the 3 patients"):
        read_covariates(path, ["a", "b", "c"], ["stage"])
