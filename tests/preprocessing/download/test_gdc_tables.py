"""Survival and diagnosis of a patient, from the GDC's records."""

from __future__ import annotations

from typing import Any

import pytest
from download_server import identifier

from tcgn_mil.preprocessing.download.gdc_api import Case
from tcgn_mil.preprocessing.download.gdc_tables import overall_survival, primary_diagnosis


def case(**clinical: Any) -> Case:
    return Case.model_validate(
        {"case_id": identifier("x"), "submitter_id": "TCGA-AA-0001", **clinical}
    )


@pytest.mark.parametrize(
    ("clinical", "expected"),
    [
        ({"demographic": {"vital_status": "Dead", "days_to_death": 9}}, (True, 9)),
        # The time of a follow-up is not the time of death.
        (
            {"demographic": {"vital_status": "Dead"}, "follow_ups": [{"days_to_follow_up": 5}]},
            (True, None),
        ),
        # A time of death does not make a patient dead.
        ({"demographic": {"vital_status": "Alive", "days_to_death": 9}}, (False, None)),
        (
            {
                "demographic": {"vital_status": "alive"},
                "diagnoses": [{"days_to_last_follow_up": 7.0}, {}],
                "follow_ups": [{"days_to_follow_up": 3}, {"days_to_follow_up": None}],
            },
            (False, 7),
        ),
        ({"demographic": {"vital_status": "Not Reported"}}, (None, None)),
        (
            {"diagnoses": [{"days_to_last_follow_up": 7.0}]},
            (None, None),
        ),
    ],
)
def test_overall_survival(clinical: dict[str, Any], expected: tuple[object, object]) -> None:
    assert overall_survival(case(**clinical)) == expected


@pytest.mark.parametrize(
    ("diagnoses", "stage"),
    [
        ([{"ajcc_pathologic_stage": "I"}], "I"),
        (
            [
                {"ajcc_pathologic_stage": "I", "diagnosis_is_primary_disease": False},
                {"ajcc_pathologic_stage": "II", "diagnosis_is_primary_disease": True},
            ],
            "II",
        ),
        (
            [
                {"ajcc_pathologic_stage": "I", "diagnosis_is_primary_disease": "Unknown"},
                {"ajcc_pathologic_stage": "II", "diagnosis_is_primary_disease": "true"},
            ],
            "II",
        ),
        (
            [
                {"ajcc_pathologic_stage": "III", "classification_of_tumor": "Primary"},
                {"ajcc_pathologic_stage": "IV", "classification_of_tumor": "metastasis"},
            ],
            "III",
        ),
        ([{"ajcc_pathologic_stage": "I"}, {"ajcc_pathologic_stage": "II"}], None),
        ([], None),
    ],
)
def test_the_primary_diagnosis_is_marked_or_the_only_one(
    diagnoses: list[dict[str, Any]], stage: str | None
) -> None:
    chosen = primary_diagnosis(case(diagnoses=diagnoses))
    assert (chosen and chosen.ajcc_pathologic_stage) == stage
