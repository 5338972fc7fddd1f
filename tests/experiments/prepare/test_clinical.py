"""tcgn-mil clinical: what it prints and writes, and its one-line errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments import main as cli
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import read_clinical

ROWS = "".join(
    f"p{i:02d},{200 + 50 * i},{'dead' if i % 3 else 'alive'},{40 + i}\n" for i in range(20)
)
COLUMNS = [
    "--patient-column",
    "id",
    "--time-column",
    "time",
    "--event-column",
    "status",
    "--endpoint",
    "OS",
]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tcgn-mil", "clinical", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text("id,time,status,age\n" + ROWS + "late,0,dead,50\n", encoding="utf-8")
    return path


def test_a_table_becomes_clinical_csv(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.parent / "out" / "clinical.csv"
    declared = [
        *COLUMNS,
        "--time-unit",
        "days",
        "--event-values",
        "dead,deceased",
        "--covariate",
        "age",
    ]
    assert run(monkeypatch, table, *declared, "--out", out) == 0
    printed = capsys.readouterr()
    assert "OS: 20 patients, 13 events (65%); median days 675" in printed.out
    assert "event: dead 14; censored: alive 7" in printed.out
    assert "1 outcomes or values listed" in printed.err
    written = read_survival(out)
    assert written.event.sum() == 13
    assert written.covariates["age"].tolist() == list(range(40, 60))
    assert (
        (out.parent / "dropped_patients.csv")
        .read_text(encoding="utf-8")
        .splitlines()[1]
        .startswith("late,OS,")
    )


def test_a_wrong_unit_ends_in_one_line_and_can_be_insisted_on(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.parent / "clinical.csv"
    declared = [*COLUMNS, "--time-unit", "years", "--event-values", "dead", "--out", out]
    assert run(monkeypatch, table, *declared) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "likely in days" in line
    assert not out.exists()
    assert run(monkeypatch, table, *declared, "--allow-unusual") == 0
    assert "warning: " in capsys.readouterr().err
    assert out.exists()


def test_sources_are_compared(
    table: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = table.parent / "cdr.csv"
    other.write_text(
        "bcr_patient_barcode,OS,OS.time\np01,1,250\np02,1,900\nnew,0,10\n", encoding="utf-8"
    )
    declared = [*COLUMNS, "--time-unit", "days", "--event-values", "dead"]
    assert run(monkeypatch, table, other, *declared, "--out", table.parent / "clinical.csv") == 0
    assert "0.500" in capsys.readouterr().out
    assert len(read_survival(table.parent / "clinical.csv")) == 21


def test_two_columns_of_times_and_the_slides_of_a_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(
        f"p{i:02d},{'dead' if i % 3 else 'alive'},{200 + 50 * i if i % 3 else ''},"
        f"{'' if i % 3 else 300 + 50 * i}\n"
        for i in range(20)
    )
    table, slides, out = (tmp_path / name for name in ("table.csv", "slides.csv", "clinical.csv"))
    table.write_text("id,status,died,seen\n" + rows)
    named = [f"s{i},p{i:02d}" for i in range(12)]
    slides.write_text("\n".join(["slide_id,patient_id", *named]) + "\n")
    columns = ["--patient-column", "id", "--event-column", "status", "--endpoint", "OS"]
    coded = ["--time-unit", "days", "--event-values", "dead", "--time-column", "died"]
    assert run(monkeypatch, table, *columns, *coded, "--out", out) == 2
    assert "--censored-time-column" in capsys.readouterr().err
    both = ["--censored-time-column", "seen", "--slides", slides]
    assert run(monkeypatch, table, *columns, *coded, *both, "--out", out) == 0
    assert "table.csv: 8 patients of other cohorts left out" in capsys.readouterr().out
    written = read_survival(out)
    assert written.patient_id == tuple(f"p{i:02d}" for i in range(12))
    assert written.time_days.tolist() == [
        (300 if i % 3 == 0 else 200) + 50.0 * i for i in range(12)
    ]


def test_a_misspelt_column_is_named_with_the_one_that_is_meant(tmp_path: Path) -> None:
    table = tmp_path / "my.csv"
    table.write_text("id,days,dead\na,100,1\n")
    named = {"patient": "id", "times": ("dais",), "events": ("dead",), "endpoints": ("OS",)}
    options = ClinicalOptions(**named, time_unit="days", event_coding="event")
    with pytest.raises(InputError, match=r"has no column 'dais' \(--time-column\).*mean 'days'"):
        read_clinical(table, options)


def test_a_table_without_endpoints_says_what_it_has(tmp_path: Path) -> None:
    table = tmp_path / "my.csv"
    table.write_text("bcr_patient_barcode,age\nTCGA-AA-0001,50\n")
    with pytest.raises(InputError, match="none of its columns is known as the time or event") as no:
        read_clinical(table, ClinicalOptions())
    assert "it has bcr_patient_barcode, age" in str(no.value)
