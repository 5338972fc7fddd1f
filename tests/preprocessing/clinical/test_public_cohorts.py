"""The public clinical tables of TCGA and CPTAC."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from clinical_tables import named

from tcgn_mil.preprocessing.clinical.checks import (
    agreement_summary,
    alarms,
    compare,
    describe,
    unit_alarm,
)
from tcgn_mil.preprocessing.clinical.layouts import UNIT_DAYS, ClinicalLayout
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.reader import ClinicalTable, read_clinical


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
