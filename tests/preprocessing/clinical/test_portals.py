"""Tables as GDC's portal and cBioPortal give them, and tables of many cohorts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import read_clinical
from tcgn_mil.preprocessing.clinical.run import write_clinical

PATIENTS = [f"TCGA-A1-{number:04d}" for number in range(30)]
DAYS = np.random.default_rng(0).integers(200, 2000, 30)
DEAD = np.arange(30) % 3 == 0


def gdc(folder: Path, *, prefixed: bool = False) -> Path:
    """GDC's clinical.tsv: two rows a patient, one for each treatment."""
    table = pd.DataFrame(
        {
            "case_id": [f"uuid-{number}" for number in range(30)],
            "case_submitter_id": PATIENTS,
            "vital_status": np.where(DEAD, "Dead", "Alive"),
            "days_to_death": np.where(DEAD, DAYS.astype(str), "'--"),
            "days_to_last_follow_up": np.where(DEAD, "'--", DAYS.astype(str)),
            "age_at_index": 60,
        }
    )
    if prefixed:
        names = {"case_id": "cases.case_id", "case_submitter_id": "cases.submitter_id"}
        names |= {name: f"demographic.{name}" for name in ("vital_status", "days_to_death")}
        names |= {"days_to_last_follow_up": "diagnoses.days_to_last_follow_up"}
        table = table.rename(columns=names)
    table = pd.concat([table.assign(treatment="R"), table.assign(treatment="P")])
    table.to_csv(folder / "clinical.tsv", sep="\t", index=False)
    return folder / "clinical.tsv"


def declared(time: str, **more: object) -> ClinicalOptions:
    return ClinicalOptions(
        patient="case_submitter_id",
        times=(time,),
        events=("vital_status",),
        time_unit="days",
        event_values=("Dead",),
        endpoints=("OS",),
        **more,  # type: ignore[arg-type]
    )


def days_and_events(path: Path, options: ClinicalOptions) -> list[tuple[float, bool]]:
    table = read_clinical(path, options)
    rows = table.outcomes.set_index("patient_id").loc[PATIENTS]
    return list(zip(rows["time_days"], rows["event"], strict=True))


@pytest.mark.parametrize("prefixed", [False, True])
def test_gdc_has_the_times_of_the_dead_and_of_the_living(tmp_path: Path, prefixed: bool) -> None:
    path = gdc(tmp_path, prefixed=prefixed)
    truth = list(zip(DAYS.astype(float), DEAD, strict=True))
    assert read_clinical(path, ClinicalOptions()).layout.name == "gdc-portal"
    assert days_and_events(path, ClinicalOptions()) == truth


def test_two_columns_of_times_can_be_declared(tmp_path: Path) -> None:
    path = gdc(tmp_path)
    options = declared("days_to_death", censored_times=("days_to_last_follow_up",))
    assert days_and_events(path, options) == list(zip(DAYS.astype(float), DEAD, strict=True))


@pytest.mark.parametrize(
    ("time", "lost", "fix"),
    [
        ("days_to_death", "20 of 20 patients without an event", "-column days_to_last_follow_up"),
        ("days_to_last_follow_up", "10 of 10 patients with an event", "-column days_to_death"),
    ],
)
def test_a_cohort_of_one_outcome_alone_is_refused(
    tmp_path: Path, time: str, lost: str, fix: str
) -> None:
    path, out = gdc(tmp_path), tmp_path / "out.csv"
    with pytest.raises(InputError, match=f"{lost} have no time in column {time}.*{fix}"):
        write_clinical([path], out, declared(time))
    assert not out.exists()
    summary = write_clinical([path], out, declared(time), allow_unusual=True)
    assert lost in summary.warnings[0]


def test_two_time_columns_for_one_endpoint_name_the_option(tmp_path: Path) -> None:
    times = ("days_to_death", "days_to_last_follow_up")
    options = ClinicalOptions(**{**declared(times[0]).__dict__, "times": times})
    with pytest.raises(InputError, match="--censored-time-column"):
        read_clinical(gdc(tmp_path), options)


def test_the_latest_follow_up_of_several_diagnoses_counts(tmp_path: Path) -> None:
    path = tmp_path / "clinical.tsv"
    path.write_text(
        "case_submitter_id\tvital_status\tdays_to_death\tdays_to_last_follow_up\n"
        "A\tAlive\t'--\t400\nA\tAlive\t'--\t900\nB\tDead\t100\t50\nC\tNot Reported\t7\t8\n"
    )
    table = read_clinical(path, ClinicalOptions())
    kept = table.outcomes.set_index("patient_id")
    assert kept["time_days"].to_dict() == {"A": 900.0, "B": 100.0}
    assert kept["event"].to_dict() == {"A": False, "B": True}
    listed = {row.patient_id: (row.reason, row.kept) for row in table.dropped}
    assert listed["A"] == ("days_to_last_follow_up differs: 400 d, 900 d", "900 d, the latest")
    assert listed["C"][0] == "time and event status are missing"


def test_the_biotab_files_of_tcga_have_three_headers(tmp_path: Path) -> None:
    path = tmp_path / "nationwidechildrens.org_clinical_patient_brca.txt"
    rows_of_file = (
        ("uuid", "bcr_patient_barcode", "vital_status", "last_contact_days_to", "death_days_to"),
        ("uuid", "bcr_patient_barcode", "vital_status", "days_to_last_followup", "days_to_death"),
        ("CDE_ID:", "CDE_ID:2003301", "CDE_ID:5", "CDE_ID:3008273", "CDE_ID:3165475"),
        ("u1", "TCGA-A1-0001", "Alive", "500", "[Not Applicable]"),
        ("u2", "TCGA-A1-0002", "Dead", "[Not Available]", "700"),
    )
    path.write_text("".join("\t".join(row) + "\n" for row in rows_of_file))
    table = read_clinical(path, ClinicalOptions())
    rows = table.outcomes.set_index("patient_id")
    assert rows["time_days"].to_dict() == {"TCGA-A1-0001": 500.0, "TCGA-A1-0002": 700.0}
    assert rows["event"].tolist() == [False, True]


def test_the_dead_do_not_leave_when_they_were_last_seen(tmp_path: Path) -> None:
    table = pd.DataFrame({"case_submitter_id": PATIENTS, "days_to_last_follow_up": DAYS - 100})
    table["days_to_death"] = np.where(DEAD, DAYS.astype(str), "'--")
    table["vital_status"] = np.where(DEAD, "Dead", "Alive")
    path = tmp_path / "clinical.csv"
    table.to_csv(path, index=False)
    message = "the table has a column days_to_death.*--time-column days_to_death"
    with pytest.raises(InputError, match=message):
        write_clinical([path], tmp_path / "out.csv", declared("days_to_last_follow_up"))
    assert write_clinical([path], tmp_path / "out.csv", ClinicalOptions()).patients == 30


def test_covariates_of_gdc_do_not_belong_to_uuids(tmp_path: Path) -> None:
    options = ClinicalOptions(covariates=("age_at_index",))
    table = read_clinical(gdc(tmp_path), options, requested_layout="covariates")
    assert list(table.covariates.index) == PATIENTS


def cbioportal(folder: Path, text: str, comments: bool = True) -> Path:
    lines = '#Patient\tAge\n#The "patient\tAge\n#STRING\tNUMBER\n#1\t1\n' if comments else ""
    path = folder / "data_clinical_patient.txt"
    path.write_text(lines + text)
    return path


STATUS = (
    "PATIENT_ID\tOS_STATUS\tOS_MONTHS\tDFS_STATUS\tDFS_MONTHS\n"
    "A\t1:DECEASED\t10\t1:Recurred/Progressed\t5\n"
    "B\t0:LIVING\t20\t0:DiseaseFree\t20\n"
    "C\t[Not Available]\t[Not Available]\t\t\n"
)


def test_cbioportal_with_its_comment_lines(tmp_path: Path) -> None:
    table = read_clinical(cbioportal(tmp_path, STATUS), ClinicalOptions())
    assert table.layout.name == "cbioportal"
    rows = table.outcomes.set_index(["endpoint", "patient_id"])
    month = 365.25 / 12
    assert rows["event"].to_dict() == {
        ("OS", "A"): True,
        ("OS", "B"): False,
        ("DFS", "A"): True,
        ("DFS", "B"): False,
    }
    assert rows.loc[("OS", "A"), "time_days"] == pytest.approx(10 * month)
    assert {(row.patient_id, row.rows) for row in table.dropped} == {("C", "8")}  # line of the file
    thirty = read_clinical(cbioportal(tmp_path, STATUS), ClinicalOptions(month_days=30))
    assert thirty.outcomes["time_days"].iloc[0] == 300


@pytest.mark.parametrize(
    "text",
    [
        "PATIENT_ID\tOS_STATUS\tOS_MONTHS\nA\tDECEASED\t10\nB\tLIVING\t20\n",
        "Study ID\tPatient ID\tOverall Survival (Months)\tOverall Survival Status\n"
        "x\tA\t10\t1:DECEASED\nx\tB\t20\t0:LIVING\n",
    ],
)
def test_older_and_displayed_columns_of_cbioportal(tmp_path: Path, text: str) -> None:
    table = read_clinical(cbioportal(tmp_path, text, comments=False), ClinicalOptions())
    assert table.outcomes["event"].tolist() == [True, False]


def test_a_status_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = cbioportal(tmp_path, "PATIENT_ID\tOS_STATUS\tOS_MONTHS\nA\tLost\t10\n")
    with pytest.raises(InputError, match=r"column OS_STATUS, row 6 .*'Lost'.*--event-values"):
        read_clinical(path, ClinicalOptions())


@pytest.mark.parametrize(
    "coding", [{"event_coding": "event"}, {"event_values": ("DECEASED",)}], ids=str
)
def test_numbered_status_is_understood_in_declared_columns(tmp_path: Path, coding: dict) -> None:
    options = ClinicalOptions(
        patient="PATIENT_ID",
        times=("OS_MONTHS",),
        events=("OS_STATUS",),
        time_unit="months",
        endpoints=("OS",),
        **coding,
    )
    table = read_clinical(cbioportal(tmp_path, STATUS), options)
    assert table.outcomes["event"].tolist() == [True, False]


def test_a_table_of_many_cohorts_gives_this_one(tmp_path: Path) -> None:
    path, out = gdc(tmp_path), tmp_path / "out.csv"
    options = ClinicalOptions(covariates=("age_at_index",))
    summary = write_clinical([path], out, options, patients=PATIENTS[:12])
    assert summary.patients == 12
    assert "clinical.tsv: 18 patients of other cohorts left out" in summary.notes
    assert read_survival(out).patient_id == tuple(PATIENTS[:12])
    with pytest.raises(InputError, match="has none of the 1 patients of the slides"):
        write_clinical([path], out, options, patients=["TCGA-ZZ-0000"])
