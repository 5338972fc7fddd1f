"""Clinical tables: layouts, units, codings, dropped rows, and the public cohorts."""

from __future__ import annotations

import zipfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.io.tables import workbook as workbooks
from tcgn_mil.preprocessing.clinical import detect_layout
from tcgn_mil.preprocessing.clinical.checks import (
    agreement_summary,
    alarms,
    compare,
    contradictions,
    describe,
    unit_alarm,
)
from tcgn_mil.preprocessing.clinical.detect_layout import LayoutReader, register_clinical_layout
from tcgn_mil.preprocessing.clinical.layouts import UNIT_DAYS, ClinicalLayout, EndpointColumns
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import ClinicalTable, read_clinical
from tcgn_mil.preprocessing.clinical.run import write_clinical

NAMED = ClinicalOptions(
    patient="id",
    times=("time",),
    events=("dead",),
    time_unit="days",
    event_coding="event",
    endpoints=("OS",),
)
CDR_HEADER = "bcr_patient_barcode,type,OS,OS.time,DSS,DSS.time"


def named(**changes: object) -> ClinicalOptions:
    return ClinicalOptions(**{**NAMED.__dict__, **changes})  # type: ignore[arg-type]


def text_file(folder: Path, text: str | bytes, name: str = "clinical.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def workbook(
    folder: Path, rows: list[list[object]], sheet: str = "TCGA-CDR", name: str = "cdr.xlsx"
) -> Path:
    book = openpyxl.Workbook()
    page = book.active
    page.title = sheet
    for row in rows:
        page.append(row)
    book.save(folder / name)
    return folder / name


def outcomes(table: ClinicalTable, endpoint: str = "OS") -> dict[str, tuple[float, bool]]:
    rows = table.outcomes[table.outcomes["endpoint"] == endpoint]
    return {row.patient_id: (row.time_days, row.event) for row in rows.itertuples()}


def follow_up(patients: int = 40, *, seed: int = 0) -> pd.DataFrame:
    """Whole days with a median of two years, a third of them with an event."""
    rng = np.random.default_rng(seed)
    days = np.round(rng.lognormal(np.log(730), 0.9, patients)).clip(5, 9000)
    return pd.DataFrame(
        {
            "id": [f"p{i}" for i in range(patients)],
            "time": days,
            "dead": rng.integers(0, 3, patients) // 2,
        }
    )


class TestLayouts:
    def test_tcga_cdr_workbook(self, tmp_path: Path) -> None:
        header: list[object] = ["", *CDR_HEADER.split(",")]
        path = workbook(
            tmp_path,
            [
                header,
                [1, "TCGA-OR-A5J1", "ACC", 1, 1355.0, 1, 1355],
                [None] * 7,
                [2, "TCGA-OR-A5J2", "ACC", 0, 20, "#N/A", "#N/A"],
            ],
        )
        table = read_clinical(path, ClinicalOptions(covariates=("type",)))
        assert table.layout.name == "tcga-cdr"
        assert outcomes(table) == {"TCGA-OR-A5J1": (1355.0, True), "TCGA-OR-A5J2": (20.0, False)}
        assert outcomes(table, "DSS") == {"TCGA-OR-A5J1": (1355.0, True)}
        assert [(lost.patient_id, lost.endpoint, lost.rows) for lost in table.dropped] == [
            ("TCGA-OR-A5J2", "DSS", "4")
        ]
        assert table.covariates["type"].tolist() == ["ACC", "ACC"]

    def test_xena_has_samples_of_one_patient(self, tmp_path: Path) -> None:
        text = (
            "sample\tOS\t_PATIENT\tOS.time\tPFI\tPFI.time\n"
            "TCGA-A1-A0SB-01\t0\tTCGA-A1-A0SB\t259\t1\t100\n"
            "TCGA-A1-A0SB-11\t0\tTCGA-A1-A0SB\t259\t1\t100\n"
        )
        table = read_clinical(text_file(tmp_path, text, "survival.tsv"), ClinicalOptions())
        assert table.layout.name == "xena"
        assert outcomes(table) == {"TCGA-A1-A0SB": (259.0, False)}
        assert outcomes(table, "PFI") == {"TCGA-A1-A0SB": (100.0, True)}
        assert not table.dropped

    @pytest.mark.parametrize(
        ("options", "layout", "days"),
        [
            (ClinicalOptions(month_days=30.44), "auto", 304.4),
            (ClinicalOptions(month_days=30), "auto", 300.0),
            (ClinicalOptions(), "porpoise", 304.4),
            (ClinicalOptions(), "survpath", 300.0),
        ],
    )
    def test_the_length_of_a_month_is_declared(
        self, tmp_path: Path, options: ClinicalOptions, layout: str, days: float
    ) -> None:
        text = (
            "case_id,survival_months,censorship,survival_months_dss,censorship_dss\n"
            "TCGA-A1-A0SB,10,0,10,1.0\n"
        )
        table = read_clinical(text_file(tmp_path, text), options, requested_layout=layout)
        assert outcomes(table) == {"TCGA-A1-A0SB": (pytest.approx(days), True)}
        assert outcomes(table, "DSS") == {"TCGA-A1-A0SB": (pytest.approx(days), False)}

    def test_undeclared_months_are_refused(self, tmp_path: Path) -> None:
        path = text_file(tmp_path, "case_id,survival_months,censorship\na,10,0\n")
        with pytest.raises(InputError, match=r"survival_months.*--months 30\.44.*--months 30 "):
            read_clinical(path, ClinicalOptions())

    def test_named_columns_of_several_endpoints_with_entry(self, tmp_path: Path) -> None:
        path = text_file(tmp_path, "id,t1,e1,t2,e2,start,note\na,2,1,1,0,0.5,x\nb,3,0,2,1,2.5,y\n")
        options = named(
            times=("t1", "t2"),
            events=("e1", "e2"),
            endpoints=("OS", "PFI"),
            entry="start",
            time_unit="years",
            covariates=("note",),
        )
        write_clinical([path], tmp_path / "out.csv", options)
        overall = read_survival(tmp_path / "out.csv")
        assert overall.time_days.tolist() == [730.5, 1095.75]
        assert overall.entry_days is not None
        assert overall.entry_days.tolist() == [182.625, 913.125]
        assert overall.covariates["note"].tolist() == ["x", "y"]
        assert read_survival(tmp_path / "out.csv", endpoint="PFI").patient_id == ("a",)
        dropped = pd.read_csv(tmp_path / "dropped_patients.csv")
        assert dropped[["patient_id", "endpoint"]].to_numpy().tolist() == [["b", "PFI"]]
        assert "not between 0 and the end" in dropped["reason"][0]

    def test_the_synthetic_cohort(self, tmp_path: Path) -> None:
        path = text_file(
            tmp_path, "patient_id,age,stage,site,time_days,event\nSYN-AA-0001,61,II,AA,321,1\n"
        )
        options = named(
            patient="patient_id",
            times=("time_days",),
            events=("event",),
            covariates=("age", "stage"),
        )
        write_clinical([path], tmp_path / "out.csv", options)
        table = read_survival(tmp_path / "out.csv")
        assert table.patient_id == ("SYN-AA-0001",)
        assert table.covariates.iloc[0].to_dict() == {"age": 61, "stage": "II"}

    def test_wanted_endpoints_only(self, tmp_path: Path) -> None:
        path = text_file(tmp_path, f"{CDR_HEADER}\nTCGA-OR-A5J1,ACC,1,10,1,10\n")
        table = read_clinical(path, ClinicalOptions(endpoints=("DSS",)))
        assert set(table.outcomes["endpoint"]) == {"DSS"}
        with pytest.raises(InputError, match=r"no endpoint PFI.*it has OS, DSS"):
            read_clinical(path, ClinicalOptions(endpoints=("PFI",)))

    @pytest.mark.parametrize(
        "content",
        [
            "\ufeffid,time,dead\r\nMüller,300,1\r\n\r\n,,\r\n".encode(),
            "id;time;dead\nMüller;300;1\n".encode(),
            'id\ttime\tdead\n "Müller" \t300.0\t1.0\n'.replace(' "', '"').encode(),
            'note,id,time,dead\n"a, b",Müller, 300 , TRUE\n'.encode(),
        ],
    )
    def test_spreadsheet_dialects(self, tmp_path: Path, content: bytes) -> None:
        assert outcomes(read_clinical(text_file(tmp_path, content), NAMED)) == {
            "Müller": (300.0, True)
        }


@patch.dict(detect_layout.CLINICAL_LAYOUTS)
def test_door_a_layout_is_added_from_outside(tmp_path: Path) -> None:
    weeks = ClinicalLayout("weeks", "id", (EndpointColumns("OS", "weeks", "dead"),), unit_days=7.0)
    register_clinical_layout(
        LayoutReader("weeks", lambda header: "weeks" in header.columns, lambda header: weeks)
    )
    table = read_clinical(text_file(tmp_path, "id,weeks,dead\na,10,1\n"), ClinicalOptions())
    assert table.layout.name == "weeks"
    assert outcomes(table) == {"a": (70.0, True)}


class TestEvents:
    @pytest.mark.parametrize(("coding", "seen"), [("event", True), ("censored", False)])
    def test_what_1_means_is_declared(self, tmp_path: Path, coding: str, seen: bool) -> None:
        path = text_file(tmp_path, "id,time,dead\na,10,1\n")
        assert outcomes(read_clinical(path, named(event_coding=coding))) == {"a": (10.0, seen)}

    def test_undeclared_coding_is_refused(self, tmp_path: Path) -> None:
        path = text_file(tmp_path, "id,time,dead\na,10,1\n")
        with pytest.raises(
            InputError, match=r"clinical\.csv.*--event-coding \(event: 1 = event; censored"
        ):
            read_clinical(path, named(event_coding=None))

    def test_text_events_name_the_ways_to_declare_them(self, tmp_path: Path) -> None:
        path = text_file(tmp_path, "id,time,dead\na,10,1\nb,20,Alive\n")
        with pytest.raises(
            InputError,
            match=r"column dead, row 3 \(patient b\): 'Alive'.*--event-values dead,deceased",
        ):
            read_clinical(path, NAMED)

    def test_text_events_are_read_and_shown(self, tmp_path: Path) -> None:
        path = text_file(
            tmp_path,
            "id,time,dead\na,10,Dead\nb,20,alive\nc,5,DECEASED\nd,5,1.0\ne,5,[Not Available]\n",
        )
        table = read_clinical(
            path, named(event_coding=None, event_values=("dead", "deceased", "1"))
        )
        assert outcomes(table) == {
            "a": (10, True),
            "b": (20, False),
            "c": (5, True),
            "d": (5, True),
        }
        assert "censored: alive 1" in table.notes[0]
        assert [lost.reason for lost in table.dropped] == [
            "event status is missing ([Not Available])"
        ]

    def test_values_that_never_occur_are_refused(self, tmp_path: Path) -> None:
        path = text_file(tmp_path, "id,time,dead\na,10,yes\nb,20,no\n")
        with pytest.raises(InputError, match="column dead: 2 values besides dead"):
            read_clinical(path, named(event_coding=None, event_values=("dead",)))

    def test_who_died_of_the_disease_has_died(self) -> None:
        rng = np.random.default_rng(0)
        died = rng.random(200) < 0.4
        frame = pd.DataFrame(
            {"patient_id": [f"p{i}" for i in range(200)], "event": died, "endpoint": "OS"}
        )
        disease = frame.assign(event=died & (rng.random(200) < 0.7), endpoint="DSS")
        both = pd.concat([frame, disease])
        assert contradictions(both) == 0
        assert (
            contradictions(both.assign(event=~both["event"]))
            == (died & ~disease["event"]).sum()
            > 3
        )


class TestWhatIsListed:
    def test_each_unusable_row_says_why(self, tmp_path: Path) -> None:
        text = "id,time,dead\n" + "".join(
            f"{name},{time},{event}\n"
            for name, time, event in [
                ("fine", "10", "1"),
                ("minus", "-3", "1"),
                ("zero", "0", "0"),
                ("nothing", "", ""),
                ("text", "#N/A", "1"),
                ("noevent", "5", "[Not Available]"),
                ("inf", "inf", "1"),
            ]
        )
        summary = write_clinical([text_file(tmp_path, text)], tmp_path / "out" / "out.csv", NAMED)
        assert summary.patients == 1
        listed = pd.read_csv(tmp_path / "out" / "dropped_patients.csv").set_index("patient_id")
        assert listed["reason"].to_dict() == {
            "minus": "negative time (-3)",
            "zero": "time of zero",
            "nothing": "time and event status are missing",
            "text": "time is missing (#N/A)",
            "noevent": "event status is missing ([Not Available])",
            "inf": "infinite time",
        }
        assert listed.loc["zero", "rows"] == 4

    def test_rows_of_a_patient(self, tmp_path: Path) -> None:
        text = (
            "id,time,dead,stage\nsame,10,1,I\nsame,10.0,1,I\nclose,10,0,I\nclose,10.5,0,II\n"
            "far,10,0,\nfar,90,0,I\nevent,10,0,I\nevent,10,1,I\npartly,NA,1,NA\npartly,7,1,III\n"
        )
        table = read_clinical(text_file(tmp_path, text), named(covariates=("stage",)))
        assert outcomes(table) == {"same": (10, True), "close": (10, False), "partly": (7, True)}
        assert table.covariates["stage"].to_dict() == {
            "same": "I",
            "close": "I",
            "far": "I",
            "event": "I",
            "partly": "III",
        }
        listed = {
            (lost.patient_id, lost.endpoint): (lost.rows, lost.kept) for lost in table.dropped
        }
        assert listed == {
            ("partly", "OS"): ("10", "row 11"),
            ("close", "OS"): ("4 5", "row 4, the first"),
            ("far", "OS"): ("6 7", ""),
            ("event", "OS"): ("8 9", ""),
            ("close", ""): ("4 5", "I, the first"),
        }

    @settings(deadline=None)  # a slow disk is no failure
    @given(
        rows=st.lists(
            st.tuples(
                st.sampled_from("abcd"), st.integers(-1, 3), st.sampled_from(["0", "1", "NA"])
            ),
            min_size=1,
        )
    )
    def test_every_patient_is_kept_or_listed(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list
    ) -> None:
        text = "id,time,dead\n" + "".join(f"{name},{time},{event}\n" for name, time, event in rows)
        table = read_clinical(text_file(tmp_path_factory.mktemp("rows"), text), NAMED)
        lost = {row.patient_id for row in table.dropped if not row.kept}
        assert set(outcomes(table)) | lost == {name for name, _, _ in rows}
        assert not set(outcomes(table)) & lost


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


class TestSources:
    def test_the_first_wins_and_the_agreement_is_shown(self, tmp_path: Path) -> None:
        frame = follow_up()
        other = frame.assign(id=[*frame["id"][:-1], "new"], time=frame["time"] / 30.44)
        other.loc[0, "time"] += 10
        other.loc[1, "dead"] = 1 - other.loc[1, "dead"]
        first = text_file(tmp_path, frame.to_csv(index=False), "a.csv")
        second = text_file(
            tmp_path,
            other.set_axis(["case_id", "survival_months", "dead"], axis=1)
            .assign(censorship=lambda rows: 1 - rows["dead"])
            .to_csv(index=False),
            "b.csv",
        )
        out = tmp_path / "out" / "clinical.csv"
        summary = write_clinical(
            [first, second], out, named(month_days=30.44), layouts=["columns", "porpoise"]
        )
        assert summary.patients == 41
        (row,) = summary.agreement
        assert (row["patients_in_both"], row["time_agrees"], row["events_differ"]) == (
            39,
            round(38 / 39, 4),
            1,
        )
        assert row["largest_difference_days"] == pytest.approx(304.4)
        agreement = pd.read_csv(tmp_path / "out" / "agreement.csv").set_index("patient_id")
        assert not agreement.loc["p0", "time_agrees"]
        assert not agreement.loc["p1", "event_agrees"]
        written = read_survival(out)
        assert written.time_days[written.patient_id.index("p0")] == frame["time"][0]
        write_clinical([first], out, NAMED)
        assert not (tmp_path / "out" / "agreement.csv").exists()

    def test_events_taken_for_their_opposite_are_told_by_a_second_source(
        self, tmp_path: Path
    ) -> None:
        frame = follow_up()
        first = text_file(tmp_path, frame.to_csv(index=False), "a.csv")
        second = text_file(
            tmp_path,
            frame.assign(dead=1 - frame["dead"])
            .set_axis(["id", "time", "dead"], axis=1)
            .to_csv(index=False),
            "b.csv",
        )
        with pytest.raises(InputError, match="events differ in 40 of 40"):
            write_clinical([first, second], tmp_path / "out.csv", NAMED)

    def test_whole_months_agree_within_their_rounding(self, tmp_path: Path) -> None:
        frame = follow_up()
        months = frame.assign(time=(frame["time"] / UNIT_DAYS["months"]).round().clip(lower=1))
        days = read_clinical(text_file(tmp_path, frame.to_csv(index=False), "a.csv"), NAMED)
        coarse = read_clinical(
            text_file(tmp_path, months.to_csv(index=False), "b.csv"), named(time_unit="months")
        )
        assert agreement_summary(compare(days, coarse))[0]["time_agrees"] >= 0.95  # type: ignore[operator]

    def test_covariates_from_another_file(self, tmp_path: Path) -> None:
        first = text_file(tmp_path, "id,time,dead\na,10,1\nb,20,0\n", "a.csv")
        second = text_file(tmp_path, "case_id,stage\na,II\na,III\n", "b.csv")
        out = tmp_path / "out.csv"
        summary = write_clinical(
            [first, second], out, named(covariates=("stage",)), layouts=["auto", "auto"]
        )
        assert read_survival(out).covariates["stage"].fillna("none").tolist() == ["II", "none"]
        assert summary.dropped == 1
        with pytest.raises(InputError, match="no file has the covariate grade"):
            write_clinical([first], out, named(covariates=("grade",)))
        with pytest.raises(InputError, match="no file has times and events"):
            write_clinical([second], out, ClinicalOptions(covariates=("stage",)))

    def test_options_without_effect_are_refused(self, tmp_path: Path) -> None:
        path = text_file(tmp_path, f"{CDR_HEADER}\nTCGA-OR-A5J1,ACC,1,10,1,10\n")
        with pytest.raises(InputError, match="read as tcga-cdr, which states them"):
            write_clinical([path], tmp_path / "out.csv", ClinicalOptions(event_coding="censored"))
        with pytest.raises(InputError, match="2 formats for 1 files"):
            write_clinical(
                [path], tmp_path / "out.csv", ClinicalOptions(), layouts=["auto", "auto"]
            )
        with pytest.raises(InputError, match="given twice"):
            write_clinical([path, path], tmp_path / "out.csv", ClinicalOptions())


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", NAMED, "holds no rows"),
        ("id,time,dead\n", NAMED, "holds no rows"),
        ("id,time,dead\n,,\n", NAMED, "holds no rows"),
        ("id,days,dead\na,1,1\n", named(), r"has no column .time. \(--time-column\)"),
        ("id,time,alive\na,1,1\n", NAMED, "has no column dead.*id, time, alive"),
        ("id,time,dead,time\na,1,1,1\n", NAMED, "has column time more than once"),
        (
            "id,time,dead\na,1,1\nb,soon,1\nc,later,0\n",
            NAMED,
            r"column time, row 3 \(patient b\): 'soon' is not a number, and 1 other cell too",
        ),
        (
            "id;time;dead\na;1,500;1\n",
            NAMED,
            r"row 2 \(patient a\): '1,500' is not a number.*decimal point",
        ),
        ("id,time,dead\n,1,1\n", NAMED, "column id, row 2: '' names no patient"),
        (
            "id,time,dead\na,1,2\n",
            NAMED,
            r"column dead, row 2 \(patient a\): '2' is neither 0 nor 1",
        ),
        ("id,time,dead\na,1\n", NAMED, "line 2 has 2 cells under 3 columns"),
        (
            "id,time,dead\na,1,1\n",
            named(time_unit=None),
            r"does not say the unit of the times.*--time-unit \(days, months, years\)",
        ),
        ("id,time,dead\na,1,1\n", named(time_unit="weeks"), "--time-unit is 'weeks'"),
        ("id,time,dead\na,1,1\n", named(endpoints=()), "does not say the endpoint.*--endpoint"),
        ("id,time,dead\na,1,1\n", named(endpoints=("OS", "PFI")), "do not pair up"),
        ("id,time,dead\na,1,1\n", named(event_values=("1",)), "both given"),
        (
            "id,time,dead\na,0,1\nb,NA,1\n",
            NAMED,
            r"no patient has a usable time and event: time of zero \(1\)",
        ),
    ],
)
def test_what_is_wrong_is_said_with_file_column_row_and_fix(
    tmp_path: Path, text: str, options: ClinicalOptions, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        write_clinical([text_file(tmp_path, text)], tmp_path / "out.csv", options)
    assert caught.value.fix
    assert not (tmp_path / "out.csv").exists()


class TestWorkbooks:
    def test_a_workbook_without_the_sheet_names_those_it_has(self, tmp_path: Path) -> None:
        path = workbook(tmp_path, [["a"], [1]], sheet="Data")
        with pytest.raises(InputError, match=r"cdr\.xlsx: has no sheet 'TCGA-CDR'.*Data"):
            read_clinical(path, ClinicalOptions())

    def test_an_empty_sheet(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no header"):
            read_clinical(workbook(tmp_path, []), ClinicalOptions())
        with pytest.raises(InputError, match="no rows below"):
            read_clinical(
                workbook(tmp_path, [["bcr_patient_barcode", "OS", "OS.time"]]), ClinicalOptions()
            )

    def test_what_unpacks_to_too_much_is_not_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = workbook(tmp_path, [["a"], [1]])
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/worksheets/sheet9.xml", b"0" * 2_000_000)
        monkeypatch.setattr(workbooks, "MAX_WORKBOOK_BYTES", 1_000_000)
        monkeypatch.setattr(
            openpyxl, "load_workbook", lambda *args, **options: pytest.fail("was opened")
        )
        with pytest.raises(InputError, match=r"unpacks to 2 MiB.*save the sheet as CSV"):
            workbooks.read_sheet(path, "TCGA-CDR")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"id,time\n"])
    def test_no_workbook(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(InputError, match="cannot be read as a workbook"):
            workbooks.read_sheet(text_file(tmp_path, content, "a.xlsx"), "TCGA-CDR")

    def test_a_formula_is_not_run(self, tmp_path: Path) -> None:
        path = workbook(tmp_path, [["a", "b"], ["=1+1", "x"]])
        assert workbooks.read_sheet(path, "TCGA-CDR").loc[2].tolist() == ["", "x"]

    def test_a_far_row_costs_nothing(self, tmp_path: Path) -> None:
        book = openpyxl.Workbook()
        page = book.active
        page.title = "TCGA-CDR"
        page["A1"], page["B1"], page["XFD900000"] = "a", "b", "far"
        page["A7"] = 5
        book.save(tmp_path / "far.xlsx")
        found = workbooks.read_sheet(tmp_path / "far.xlsx", "TCGA-CDR")
        assert found.to_dict() == {"a": {7: "5"}, "b": {7: ""}}


@pytest.fixture(scope="module")
def cdr(real_data: Path) -> ClinicalTable:
    return read_clinical(
        real_data / "tcga_clinical" / "TCGA-CDR_outcome.xlsx", ClinicalOptions(covariates=("type",))
    )


@pytest.mark.realdata
class TestPublicCohorts:
    def test_tcga_cdr(self, cdr: ClinicalTable) -> None:
        counts = cdr.outcomes.groupby("endpoint", sort=False)["event"].agg(["size", "sum"])
        assert counts["size"].to_dict() == {"OS": 10986, "DSS": 10445, "DFI": 5496, "PFI": 10804}
        assert counts["sum"].to_dict() == {"OS": 3573, "DSS": 2481, "DFI": 1117, "PFI": 3968}
        assert alarms(cdr) == []
        listed = pd.DataFrame(cdr.dropped)
        assert len(listed[listed["endpoint"] == "OS"]) == 11160 - 10986

    def test_no_cancer_type_alarms_and_no_coding_looks_odd(self, cdr: ClinicalTable) -> None:
        types = cdr.outcomes["patient_id"].map(cdr.covariates["type"])
        assert types.nunique() == 33
        for _, rows in cdr.outcomes.groupby(types):
            part = ClinicalTable(cdr.path, cdr.layout, rows, cdr.covariates, (), ())
            assert alarms(part) == []
            assert not [line for line in describe(part) if "check the event coding" in line]

    def test_every_wrong_unit_of_the_whole_table_alarms(self, cdr: ClinicalTable) -> None:
        for _, rows in cdr.outcomes.groupby("endpoint"):
            days = rows["time_days"].to_numpy(dtype=float)
            for unit, length in UNIT_DAYS.items():
                for declared, taken in UNIT_DAYS.items():
                    found = unit_alarm(
                        days / length * taken, ClinicalLayout("columns", "id", (), taken, declared)
                    )
                    assert (found is not None) == (unit != declared), (unit, declared)

    def test_inverted_events_of_the_whole_table_alarm(self, cdr: ClinicalTable) -> None:
        inverted = cdr.outcomes.assign(event=~cdr.outcomes["event"].astype(bool))
        found = alarms(ClinicalTable(cdr.path, cdr.layout, inverted, cdr.covariates, (), ()))
        assert len(found) == 1
        assert "events and censoring are swapped" in str(found[0])

    @pytest.mark.parametrize("declared", ["days", "years"])
    @pytest.mark.parametrize(
        ("file", "layout"),
        [
            ("tcga_expression/tcga_brca_all_clean.csv.zip", "porpoise"),
            ("tcga_clinical/survpath_tcga_brca.csv", "survpath"),
        ],
    )
    def test_tables_of_months(self, real_data: Path, file: str, layout: str, declared: str) -> None:
        table = read_clinical(real_data / file, ClinicalOptions(), requested_layout=layout)
        assert alarms(table) == []
        assert table.dropped == ()
        other = "survpath" if layout == "porpoise" else "porpoise"
        assert "whole days" in str(
            alarms(read_clinical(real_data / file, ClinicalOptions(), requested_layout=other))[0]
        )
        wrong = named(
            patient="case_id",
            times=("survival_months",),
            events=("censorship",),
            time_unit=declared,
        )
        (alarm,) = alarms(read_clinical(real_data / file, wrong))
        assert "likely in months" in str(alarm)

    def test_porpoise_brca_agrees_with_tcga_cdr(self, real_data: Path, cdr: ClinicalTable) -> None:
        brca = read_clinical(
            real_data / "tcga_expression" / "tcga_brca_all_clean.csv.zip",
            ClinicalOptions(),
            requested_layout="porpoise",
        )
        assert (len(brca.outcomes), brca.outcomes["event"].sum()) == (956, 130)
        (row,) = agreement_summary(compare(brca, cdr))
        assert (row["patients_in_both"], row["time_agrees"], row["events_differ"]) == (956, 1.0, 0)

    def test_conflicting_subtypes_are_listed(self, real_data: Path) -> None:
        path = real_data / "tcga_clinical" / "survpath_tcga_brca_clinical.csv"
        table = read_clinical(path, ClinicalOptions(covariates=("stage", "subtype")))
        assert len(table.dropped) == 7
        assert all(
            "subtype differs" in row.reason and row.kept.endswith("the first")
            for row in table.dropped
        )
