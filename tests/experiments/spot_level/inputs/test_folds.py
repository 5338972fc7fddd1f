"""Tests of the assignment of sections to training, validation and test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level.inputs.folds import (
    BLOCK,
    DISJOINT,
    HELD_OUT,
    ON_TEST,
    read_spot_folds,
    split_sections,
    spot_folds,
)

HER2ST = {"B4": "B", "C2": "C", "C3": "C", "C4": "C", "C5": "C"}


def test_leave_one_patient_out_with_two_patients_validates_on_a_held_out_section() -> None:
    split = split_sections(HER2ST, ["C5"], ["B4"])
    assert (split.train, split.val, split.test) == (("C2", "C3", "C4"), ("C5",), ("B4",))
    assert split.validation == "held-out section of a training patient"
    assert split.leaking == ()


def test_a_shared_patient_is_called_leakage() -> None:
    assert split_sections(HER2ST, ["C5"], ["C4"]).leaking == ("C",)


def test_validation_is_patient_disjoint_where_three_patients_train() -> None:
    sections = {"A1": "A", "A2": "A", "B1": "B", "C1": "C", "D1": "D"}
    split = split_sections(sections, [], ["A1", "A2"])
    assert (split.train, split.val) == (("B1", "C1"), ("D1",))
    assert split.validation == "patient-disjoint"


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [
        (["Z1"], [], "no section Z1"),
        (["C5"], ["C5"], "section C5 is named twice"),
        (["B4", "C2", "C3", "C4", "C5"], [], "none is left for training"),
    ],
)
def test_impossible_splits(val: list[str], test: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_sections(HER2ST, val, test)


MANY = {f"{patient}{number}": patient for patient in "ABCDE" for number in (1, 2)}


def test_each_patient_is_tested_once_and_trains_in_no_fold_that_tests_it() -> None:
    folds = spot_folds(MANY)
    assert [fold.name for fold in folds] == list("ABCDE")
    assert sorted(name for fold in folds for name in fold.test) == sorted(MANY)
    for fold in folds:
        assert not {MANY[name] for name in fold.test} & {MANY[name] for name in fold.train_and_val}
        assert fold.validation == DISJOINT
        assert fold.leaking == ()
        assert sorted((*fold.train, *fold.val, *fold.test)) == sorted(MANY)
    assert len({fold.val for fold in folds}) == 5  # not always the same patient chooses the epoch


def test_several_patients_a_fold() -> None:
    folds = spot_folds(MANY, n_folds=2)
    assert [fold.test for fold in folds] == [
        ("A1", "A2", "C1", "C2", "E1", "E2"),
        ("B1", "B2", "D1", "D2"),
    ]
    assert folds[0].validation == DISJOINT  # one patient is left to train


def test_two_patients_of_which_one_has_a_single_section() -> None:
    of_b, of_c = spot_folds(HER2ST)
    assert (of_b.train, of_b.val, of_b.test) == (("C3", "C4", "C5"), ("C2",), ("B4",))
    assert of_b.validation == HELD_OUT
    assert (of_c.train, of_c.val, of_c.test) == (("B4",), ("B4",), ("C2", "C3", "C4", "C5"))
    assert of_c.validation == BLOCK
    assert of_c.train_and_val == ("B4",)
    assert not of_b.leaking + of_c.leaking


def test_sections_left_out_one_by_one_are_labelled() -> None:
    folds = spot_folds(HER2ST, group_by="section")
    assert [fold.test for fold in folds] == [(name,) for name in sorted(HER2ST)]
    assert [fold.leaking for fold in folds] == [(), *[("C",)] * 4]


def test_selection_on_test_validates_on_nothing_else() -> None:
    for fold in spot_folds(HER2ST, group_by="section", select_on_test=True):
        assert fold.val == fold.test
        assert fold.validation == ON_TEST
        assert len(fold.train) == 4
        assert not set(fold.train_and_val) & set(fold.test)


@pytest.mark.parametrize(("sections", "n_folds"), [({"A1": "A", "A2": "A"}, 0), (HER2ST, 3)])
def test_too_few_patients_for_the_folds(sections: dict[str, str], n_folds: int) -> None:
    with pytest.raises(InputError, match=r"cannot be cut into .* folds.*group_by=section"):
        spot_folds(sections, n_folds=n_folds)


def folds_file(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "folds.csv"
    path.write_text("\n".join(["fold,part,id", *rows]) + "\n", encoding="utf-8")
    return path


def test_a_file_of_folds_names_sections_or_patients(tmp_path: Path) -> None:
    path = folds_file(
        tmp_path,
        "x,train,A",
        "x,train,B1",
        "x,val,C",
        "x,test,D1",
        "1,train,B",
        "1,val,A1",
        "1,test,E",
    )
    first, second = read_spot_folds(path, MANY)
    assert (first.name, first.train, first.val, first.test) == (
        "x",
        ("A1", "A2", "B1"),
        ("C1", "C2"),
        ("D1",),
    )
    assert (second.train, second.val, second.test) == (("B1", "B2"), ("A1",), ("E1", "E2"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0,train,A", "0,val,B"], "fold 0 has an empty test part"),
        (["0,val,A", "0,test,B"], "fold 0 has an empty train part"),
        (
            ["0,train,A1", "0,val,B", "0,test,A2"],
            "fold 0 tests on patient A, who also trains or validates",
        ),
        (["0,train,A", "0,val,A1", "0,test,B"], "holds A1 more than once"),
        (
            ["0,train,A", "0,val,B", "0,test,Z9"],
            "names Z9, which is neither a section nor a patient",
        ),
        (["0,train,A", "0,dev,B", "0,test,C"], "part 'dev'"),
        (["../0,train,A", "../0,val,B", "../0,test,C"], r"fold '../0'"),
        (
            ["0,train,A", "0,val,B", "0,test,C", "1,train,A", "1,val,B", "1,test,C1"],
            "C1 is tested in two folds",
        ),
        ([], "holds no fold"),
    ],
)
def test_files_of_folds_that_cannot_be(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_spot_folds(folds_file(tmp_path, *rows), MANY)


def test_a_patient_in_two_parts_is_allowed_where_sections_are_left_out_and_labelled(
    tmp_path: Path,
) -> None:
    path = folds_file(tmp_path, "0,train,A1", "0,val,B", "0,test,A2")
    (fold,) = read_spot_folds(path, MANY, group_by="section")
    assert fold.leaking == ("A",)


def test_a_file_that_is_no_table_of_folds(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_text("fold,id\n0,A\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"folds.csv: has no column part"):
        read_spot_folds(path, MANY)
    with pytest.raises(InputError, match="no such folds file"):
        read_spot_folds(tmp_path / "other.csv", MANY)


def test_a_file_in_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_text("fold,part,id\n", encoding="utf-16")
    with pytest.raises(InputError, match=r"folds.csv: cannot be read as UTF-8 text"):
        read_spot_folds(path, MANY)


def test_names_of_patients_name_no_other_folder() -> None:
    folds = spot_folds({"a": "A/x", "b": "..", "c": "C"})
    assert [fold.name for fold in folds] == ["0", "1", "C"]
