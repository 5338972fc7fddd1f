"""clinical.csv is read back as it was written, lifelines can read it, and errors are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.io.clinical_file import endpoints_of, read_survival, write_survival
from tcgn_mil.types.outcomes import SurvivalTable


def table(
    endpoint: str = "OS",
    patients: tuple[str, ...] = ("p2", "p1", "Müller"),
    *,
    time: tuple[float, ...] = (10.0, 20.5, 365.0),
    event: tuple[bool, ...] = (True, False, True),
    entry: tuple[float, ...] | None = None,
    **covariates: list[object],
) -> SurvivalTable:
    index = pd.Index(patients, name="patient_id")
    entry_days = None if entry is None else np.array(entry)
    return SurvivalTable(
        endpoint,
        patients,
        np.array(time),
        np.array(event),
        pd.DataFrame(covariates, index=index),
        entry_days,
    )


class TestTheContract:
    @pytest.mark.parametrize("time", [0.0, -1.0, float("nan"), float("inf")])
    def test_times_are_finite_and_above_zero(self, time: float) -> None:
        with pytest.raises(InputError, match=r"OS: patient p1 has a time of .* days"):
            table(time=(10.0, time, 5.0))

    def test_a_patient_has_one_row_and_a_name(self) -> None:
        with pytest.raises(InputError, match="patient p1 has several rows"):
            table(patients=("p1", "p2", "p1"))
        with pytest.raises(InputError, match="no patient_id"):
            table(patients=("p1", "", "p3"))

    def test_lengths_and_types_must_fit(self) -> None:
        with pytest.raises(InputError, match="time_days must have one value for each of the 3"):
            table(time=(1.0, 2.0))
        with pytest.raises(InputError, match=r"event is .*, but it must be bool"):
            table(event=(1, 0, 1))  # type: ignore[arg-type]

    @pytest.mark.parametrize("entry", [-1.0, 10.0, float("nan")])
    def test_entry_lies_before_the_end(self, entry: float) -> None:
        with pytest.raises(InputError, match="patient p2 enters at"):
            table(entry=(entry, 0.0, 0.0))

    def test_an_endpoint_can_name_columns(self) -> None:
        with pytest.raises(InputError, match="cannot be part of a column name"):
            table("O,S")


class TestRoundTrip:
    def test_endpoints_stand_side_by_side(self, tmp_path: Path) -> None:
        path = tmp_path / "clinical.csv"
        pfi = table("PFI", ("p1", "p9"), time=(5.0, 7.0), event=(True, True), age=[61, 40])
        write_survival(path, [table(age=[50, 61, 70]), pfi], meta={"sources": ["a.csv"]})
        assert endpoints_of(path) == ["OS", "PFI"]
        overall, progression = read_survival(path), read_survival(path, endpoint="PFI")
        assert overall.patient_id == ("Müller", "p1", "p2")
        assert overall.time_days.tolist() == [365.0, 20.5, 10.0]
        assert overall.event.tolist() == [True, False, True]
        assert overall.covariates["age"].tolist() == [70, 61, 50]
        assert progression.patient_id == ("p1", "p9")
        assert overall.entry_days is None
        made = json.loads((tmp_path / "clinical.json").read_text(encoding="utf-8"))
        assert made["endpoints"]["OS"] == {"patients": 3, "events": 2}
        assert made["sources"] == ["a.csv"]
        assert "schema_version" in made

    def test_entry_times_are_kept(self, tmp_path: Path) -> None:
        write_survival(tmp_path / "c.csv", [table(entry=(0.0, 3.0, 9.5))], meta={})
        assert read_survival(tmp_path / "c.csv").entry_days.tolist() == [9.5, 3.0, 0.0]  # type: ignore[union-attr]

    def test_names_of_digits_stay_text(self, tmp_path: Path) -> None:
        write_survival(tmp_path / "c.csv", [table(patients=("007", "7", "NA"))], meta={})
        assert read_survival(tmp_path / "c.csv").patient_id == ("007", "7", "NA")

    @given(
        rows=st.lists(
            st.tuples(
                st.floats(1e-3, 2e4), st.booleans(), st.sampled_from(["I", "II", "a,b", 'q"'])
            ),
            min_size=1,
        )
    )
    def test_what_is_written_is_read(
        self, tmp_path_factory: pytest.TempPathFactory, rows: list
    ) -> None:
        times, events, stages = zip(*rows, strict=True)
        patients = tuple(f"p{i:04d}" for i in range(len(rows)))
        path = tmp_path_factory.mktemp("round") / "c.csv"
        write_survival(
            path, [table("DSS", patients, time=times, event=events, stage=list(stages))], meta={}
        )
        back = read_survival(path, endpoint="DSS")
        assert back.patient_id == patients
        np.testing.assert_allclose(back.time_days, times, rtol=1e-9)
        assert back.event.tolist() == list(events)
        assert back.covariates["stage"].tolist() == list(stages)

    def test_lifelines_takes_the_file_as_it_is(self, tmp_path: Path) -> None:
        from lifelines import CoxPHFitter

        rng = np.random.default_rng(0)
        age = rng.normal(60, 10, 80)
        time = rng.exponential(1000 * np.exp(-(age - 60) / 10))
        patients = tuple(f"p{i}" for i in range(80))
        made = table(patients=patients, time=tuple(time), event=(True,) * 80, age=list(age))
        write_survival(tmp_path / "c.csv", [made], meta={})
        wide = pd.read_csv(tmp_path / "c.csv", index_col="patient_id")
        fit = CoxPHFitter().fit(wide, duration_col="OS_time_days", event_col="OS_event")
        assert fit.params_["age"] == pytest.approx(0.1, abs=0.04)

    def test_what_cannot_stand_in_one_file(self, tmp_path: Path) -> None:
        path = tmp_path / "c.csv"
        for tables, message in (
            ([], "cannot be written"),
            ([table(), table()], "cannot be written"),
            ([table(OS_event=[1, 2, 3])], "covariate OS_event has the name of another column"),
            (
                [table(age=[1, 2, 3]), table("PFI", age=[1, 2, 4])],
                "age of Müller differs between endpoints",
            ),
            ([table(entry=(0.0, 0.0, 0.0)), table("PFI")], "some endpoints have entry times"),
        ):
            with pytest.raises(InputError, match=message):
                write_survival(path, tables, meta={})
        with pytest.raises(InputError, match=r"not named \.csv"):
            write_survival(tmp_path / "c.txt", [table()], meta={})
        assert not path.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,OS_time_days,OS_event\np1,1,1\n", "no column patient_id"),
        ("patient_id,age\np1,1\n", "no endpoint 'OS'.*it has none"),
        ("patient_id,PFI_time_days,PFI_event\np1,1,1\n", "no endpoint 'OS'.*it has PFI"),
        (
            "patient_id,OS_time_days,OS_event\np1,1,1\np2,5,2\n",
            "row 3: OS of p2 has an event other than 0 and 1",
        ),
        (
            "patient_id,OS_time_days,OS_event\np1,1,\n",
            "row 2: OS of p1 has a time or an event, not both",
        ),
        (
            "patient_id,OS_time_days,OS_event\np1,soon,1\n",
            "column OS_time_days, row 2: 'soon' is not a number",
        ),
        ("patient_id,OS_time_days,OS_event\np1,0,1\n", "patient p1 has a time of 0"),
        ("patient_id,OS_time_days,OS_event\np1,inf,1\n", "patient p1 has a time of inf"),
        ("patient_id,OS_time_days,OS_event\np1,1,1\np1,2,1\n", "patient p1 has several rows"),
        ("patient_id,OS_time_days,OS_event\n,1,1\n", "a row has no patient_id"),
        ("", "holds no rows below a header"),
    ],
)
def test_a_file_changed_since_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "clinical.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_survival(tmp_path / "clinical.csv")
    assert "clinical.csv" in str(caught.value)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make it with tcgn-mil clinical"):
        read_survival(tmp_path / "gone.csv")


def test_rows_of_samples_become_one_row_of_the_patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        "tcga.aa.0001.01a,100,1,II",
        "TCGA-AA-0001-01Z-00-DX1,100,1,II",
        "TCGA-AA-0001-11A,5,0,II",
        "TCGA-AA-0002,200,0,",
    ]
    path = tmp_path / "clinical.csv"
    path.write_text("\n".join(["patient_id,OS_time_days,OS_event,stage", *rows]) + "\n")
    table = read_survival(path)
    assert table.patient_id == ("TCGA-AA-0001", "TCGA-AA-0002")
    assert table.time_days.tolist() == [100, 200]
    told = capsys.readouterr().err
    assert "1 row of normal tissue or controls left out" in told
    assert "1 row left out, equal to an earlier row of the same patient" in told
