"""Clinical tables: layouts, units, codings, dropped rows, and the public cohorts."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from clinical_tables import CDR_HEADER, NAMED, named, outcomes, text_file, workbook
from hypothesis import given, settings
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.preprocessing.clinical import detect_layout
from tcgn_mil.preprocessing.clinical.checks import (
    contradictions,
)
from tcgn_mil.preprocessing.clinical.detect_layout import LayoutReader, register_clinical_layout
from tcgn_mil.preprocessing.clinical.layouts import ClinicalLayout, EndpointColumns
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import read_clinical
from tcgn_mil.preprocessing.clinical.run import write_clinical


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
