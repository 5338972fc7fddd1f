"""Several clinical tables of one cohort, and tables in workbooks."""

from __future__ import annotations

import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from clinical_tables import CDR_HEADER, NAMED, follow_up, named, text_file, workbook

from tcgn_mil.errors import InputError
from tcgn_mil.io.clinical_file import read_survival
from tcgn_mil.io.tables import workbook as workbooks
from tcgn_mil.preprocessing.clinical.checks import (
    agreement_summary,
    compare,
)
from tcgn_mil.preprocessing.clinical.layouts import UNIT_DAYS
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import read_clinical
from tcgn_mil.preprocessing.clinical.run import write_clinical


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
