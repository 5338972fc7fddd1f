"""Which sections train, validate and test."""

from __future__ import annotations

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_folds import split_sections

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
        (["C5"], ["C5"], "given twice"),
        (["B4", "C2", "C3", "C4", "C5"], [], "no training section"),
    ],
)
def test_impossible_splits(val: list[str], test: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_sections(HER2ST, val, test)
