"""Roles of the columns of a table of features: each rule, and each table that is not clear."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.settings import TableSettings
from tcgn_mil.preprocessing.features.table_columns import TableColumns, assign_columns

SLIDES = [f"TCGA-AA-000{i}-01Z-00-DX1" for i in (0, 1, 2)]
PATIENTS = [name[:12] for name in SLIDES]
X = [0.5, 1.5, 2.5]


def assign(
    columns: dict[str, list], *, patients_given: bool = False, **settings: object
) -> TableColumns:
    return assign_columns(
        pd.DataFrame(columns),
        TableSettings(**settings),
        path=Path("t.csv"),
        patients_given=patients_given,
    )


@pytest.mark.parametrize(
    ("columns", "slide", "patient"),
    [
        ({"s": ["a", "b", "c"], "x": X}, "s", None),
        ({"s": [7, 8, 9], "x": X}, "s", None),
        ({"barcode": SLIDES, "x": X}, "barcode", None),
        ({"cohort": ["L"] * 3, "barcode": SLIDES, "x": X}, "barcode", None),
        ({"x": X, "who": PATIENTS}, None, "who"),
        ({"who": [f"{name}-01A" for name in PATIENTS], "x": X}, None, "who"),
        ({"who": [name.lower() for name in PATIENTS], "x": X}, None, "who"),
        ({"who": PATIENTS, "again": PATIENTS, "x": X}, None, "who"),
        ({"who": [PATIENTS[0]] * 3, "the_SLIDE": [4, 5, 6], "x": X}, "the_SLIDE", "who"),
        ({"s": ["a", "b", "c"], "who": [PATIENTS[0]] * 3, "x": X}, "s", "who"),
        ({"slide": SLIDES, "who": PATIENTS, "x": X}, "slide", "who"),
        ({"slide id": [1, 2, 3], "name": ["1", "2", "3"], "x": X}, "slide id", None),
        ({"case_id": [1, 1, 2], "slide": ["a", "b", "c"], "x": X}, "slide", "case_id"),
        ({"patient_id": ["p", "q", "r"], "x": X}, None, "patient_id"),
        ({"": [0, 1, 2], "who": PATIENTS, "x": X}, None, "who"),
        ({"SLIDE AREA": X, "who": PATIENTS}, None, "who"),
        ({"cells": [5, 5, 6], "who": PATIENTS}, None, "who"),
    ],
)
def test_slides_and_patients_are_found(
    columns: dict[str, list], slide: str | None, patient: str | None
) -> None:
    found = assign(columns)
    assert (found.slide, found.patient) == (slide, patient)
    assert list(found.roles) == list(columns)


def test_equal_rows_do_not_hide_the_column_of_slides() -> None:
    columns = {"k": ["L"] * 3, "slide": ["a", "b", "a"], "who": [PATIENTS[0]] * 3, "x": [1.0, 2, 1]}
    assert assign(columns).slide == "slide"


def test_options_decide() -> None:
    columns = {"a": ["p", "p", "q"], "b": ["u", "v", "w"], "n": [1, 2, 3], "x": X}
    found = assign(columns, slide_column="n", patient_column="a", leave_out=("b",))
    assert (found.slide, found.patient, found.features) == ("n", "a", ("x",))
    assert found.roles["b"] == ("left out", "by --leave-out")
    # A column that names both: the name of a slide leads to its patient.
    found = assign({"n": [1, 2, 3], "who": PATIENTS}, slide_column="who")
    assert (found.slide, found.patient, found.features) == ("who", None, ("n",))


def test_patients_from_elsewhere_are_looked_up_by_the_slide() -> None:
    found = assign({"who": PATIENTS, "slide": [4, 5, 6], "x": X}, patients_given=True)
    assert (found.slide, found.patient) == ("slide", None)
    assert found.roles["who"] == ("left out", "the patients come from --patients")
    assert assign({"who": PATIENTS, "x": X}, patients_given=True).slide == "who"
    columns = {"s": ["a", "b", "c"], "donor": ["d", "e", "e"], "x": X}
    assert assign(columns, patients_given=True).slide == "s"


@pytest.mark.parametrize(
    ("columns", "message", "fix"),
    [
        (
            {"file": ["a", "b", "c"], "slide": ["u", "v", "w"], "x": X},
            "which column names the slides: file, slide",
            "--slide-column 'file'",
        ),
        (
            {"k": ["L"] * 3, "slide_a": [1, 2, 3], "slide_b": [4, 5, 6], "who": PATIENTS, "x": X},
            "which column names the slides: slide_a, slide_b",
            "--slide-column 'slide_a'",
        ),
        (
            {"cells": [5, 7, 6], "who": PATIENTS},
            "column 'cells' holds whole numbers that never repeat",
            "--slide-column 'cells'; if it is a feature, --slide-column 'who'",
        ),
        (
            {"who": PATIENTS, "other": PATIENTS[::-1], "x": X},
            "columns who, other hold TCGA barcodes of different patients",
            "--patient-column 'who'",
        ),
        (
            {"s": ["a", "b", "c"], "who": [*PATIENTS[:2], "n/a"], "x": X},
            "column 'who', row 4: 'n/a' is not a TCGA barcode",
            "--patient-column 'who'",
        ),
        (
            {"s": ["a", "b", "c"], "the patient": ["p", "p", "q"], "x": X},
            "the patient may name the patients",
            "--patient-column 'the patient'",
        ),
        ({"x": X, "y": X}, "no column that names the slides", "--slide-column"),
        ({"s": ["a", "b", "c"], "stage": ["I", "I", "II"]}, "no column of features", "numbers"),
    ],
)
def test_tables_that_are_not_clear_name_the_candidates_and_the_option(
    columns: dict[str, list], message: str, fix: str
) -> None:
    with pytest.raises(InputError) as told:
        assign(columns)
    assert message in told.value.reason
    assert fix in str(told.value.fix)


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        ("H & E_ID", [9, 4, 7], "left out"),
        ("scanID", [9, 4, 4], "left out"),
        ("GRID", [9, 4, 7], "feature"),
        ("x_id", [0.5, 1.5, 2.5], "feature"),
        ("MPP", [0.25, 0.25, 0.5], "left out"),
        ("is_big", [True, False, True], "feature"),
        ("count", [1, 2, 3], "feature"),
    ],
)
def test_numbers_that_are_no_features(name: str, values: list, role: str) -> None:
    found = assign({"slide": ["a", "b", "c"], name: values, "x": X})
    assert found.roles[name][0] == role
    assert (name in found.features) == (role == "feature")
