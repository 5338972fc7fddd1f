"""Units of time in clinical tables, declared and recognised."""

from __future__ import annotations

from pathlib import Path

import pytest
from clinical_tables import NAMED, follow_up, named, text_file

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.clinical.layouts import UNIT_DAYS
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.run import write_clinical


class TestUnits:
    @pytest.mark.parametrize("unit", UNIT_DAYS)
    @pytest.mark.parametrize("declared", UNIT_DAYS)
    def test_a_wrong_unit_is_told_with_the_likely_one(
        self, tmp_path: Path, unit: str, declared: str
    ) -> None:
        frame = follow_up()
        frame["time"] /= UNIT_DAYS[unit]
        path = text_file(tmp_path, frame.to_csv(index=False))
        options = named(time_unit=declared)
        if unit == declared:
            assert write_clinical([path], tmp_path / "out.csv", options).patients == 40
            return
        with pytest.raises(
            InputError,
            match=f"declared in {declared}, the 40 times have a median of .*likely in.*{unit}",
        ):
            write_clinical([path], tmp_path / "out.csv", options)
        assert not (tmp_path / "out.csv").exists()
        summary = write_clinical([path], tmp_path / "out.csv", options, allow_unusual=True)
        assert "median" in summary.warnings[0]

    def test_few_patients_are_not_judged_but_said(self, tmp_path: Path) -> None:
        summary = write_clinical(
            [text_file(tmp_path, "id,time,dead\na,10,1\n")], tmp_path / "out.csv", NAMED
        )
        assert "too few patients to check the unit" in summary.notes[0]

    @pytest.mark.parametrize(("true", "declared"), [(30.44, 30.0), (30.0, 30.44)])
    def test_the_wrong_month_makes_no_whole_days(
        self, tmp_path: Path, true: float, declared: float
    ) -> None:
        frame = follow_up().rename(
            columns={"id": "case_id", "time": "survival_months", "dead": "censorship"}
        )
        frame["survival_months"] = (frame["survival_months"] / true).round(2)
        path = text_file(tmp_path, frame.to_csv(index=False))
        with pytest.raises(InputError, match=f"declare --months {true:g}"):
            write_clinical([path], tmp_path / "out.csv", ClinicalOptions(month_days=declared))
        write_clinical([path], tmp_path / "out.csv", ClinicalOptions(month_days=true))

    @pytest.mark.parametrize("decimals", [0, 1])
    def test_rounded_months_do_not_tell_their_length(self, tmp_path: Path, decimals: int) -> None:
        frame = follow_up().rename(
            columns={"id": "case_id", "time": "survival_months", "dead": "censorship"}
        )
        frame["survival_months"] = (frame["survival_months"] / 30.44).round(decimals).clip(lower=1)
        path = text_file(tmp_path, frame.to_csv(index=False))
        for month in (30, 30.44):
            assert not write_clinical(
                [path], tmp_path / "out.csv", ClinicalOptions(month_days=month)
            ).warnings

    def test_one_kind_of_event_is_pointed_at(self, tmp_path: Path) -> None:
        for event, said in ((0, "every patient is censored"), (1, "every patient has an event")):
            path = text_file(tmp_path, follow_up().assign(dead=event).to_csv(index=False))
            assert said in write_clinical([path], tmp_path / "out.csv", NAMED).notes[0]
