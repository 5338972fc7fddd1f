"""The join of expression and slides: chosen samples, the key and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from joined_tables import SLIDE_A, SLIDE_B, A, B, entry, join, profiles, report, table

from tcgn_mil.errors import InputError
from tcgn_mil.io.cohort_file import cohort_meta, cohort_unit, read_cohort, slides_of
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.slides.table import find_slides


def test_cohort_holds_patients_with_both_and_the_report_names_the_rest(tmp_path: Path) -> None:
    rows = [
        (f"{A}-01A-11R-A41B-07", [1, 2, 3]),
        (f"{B}-01A", [4, 5, 6]),
        ("TCGA-CC-0003-01A", [7, 8, 9]),
    ]
    lonely = "TCGA-DD-0004-01Z-00-DX1"
    summary = join(tmp_path, rows, [entry(SLIDE_B), entry(SLIDE_A), entry(lonely)])
    assert (
        summary.slides,
        summary.slides_kept,
        summary.samples,
        summary.patients,
        summary.genes,
    ) == (3, 2, 3, 2, 3)
    assert profiles(tmp_path) == {A: [1, 2, 3], B: [4, 5, 6]}
    found = report(tmp_path)
    assert found[f"slide {lonely}"]["reason"] == "no expression of this patient"
    assert found["sample TCGA-CC-0003-01A"]["reason"] == "no slide of this patient"
    assert (found[f"slide {SLIDE_A}"]["preparation"], found[f"slide {SLIDE_B}"]["preparation"]) == (
        "diagnostic",
        "frozen",
    )
    cohort = read_cohort(tmp_path / "cohort.h5ad")
    assert slides_of(cohort).to_numpy().tolist() == [[SLIDE_B, B], [SLIDE_A, A]]
    assert cohort.obs["site"].tolist() == ["AA", "BB"]
    assert str(cohort_unit(cohort)) == "fpkm"
    assert cohort_meta(cohort)["sources"] == ["bulk.csv"]


def test_key_is_15_characters_where_both_sides_state_the_sample_type_else_12(
    tmp_path: Path,
) -> None:
    summary = join(
        tmp_path,
        [(f"{A}-01A", [1, 2, 3]), (B, [4, 5, 6]), ("P1", [7, 8, 9])],
        [entry(SLIDE_A), entry(SLIDE_B), entry("section1", "P1")],
    )
    found = {name: str(row["key"]) for name, row in report(tmp_path).items()}
    assert "(15" in found[f"slide {SLIDE_A}"]
    assert "(15" in found[f"sample {A}-01A"]
    assert "(12" in found[f"slide {SLIDE_B}"]
    assert "(12" in found[f"sample {B}"]
    assert found["slide section1"] == found["sample P1"] == "patient id"
    assert all(key in str(summary) for key in found.values())
    obs = read_cohort(tmp_path / "cohort.h5ad").obs
    assert obs["key"].to_dict() == {
        A: found[f"sample {A}-01A"],
        B: found[f"sample {B}"],
        "P1": "patient id",
    }


def test_a_metastasis_slide_takes_metastasis_rna_only(tmp_path: Path) -> None:
    rows = [(f"{A}-01A", [1, 1, 1]), (f"{A}-06A", [6, 6, 6]), (f"{B}-01A", [2, 2, 2])]
    join(tmp_path, rows, [entry(f"{A}-06A-01-TS1"), entry(f"{B}-06A-01-TS1"), entry(SLIDE_B)])
    assert profiles(tmp_path) == {A: [6, 6, 6], B: [2, 2, 2]}
    found = report(tmp_path)
    assert found[f"sample {A}-01A"]["reason"] == "of sample type 01, but the slides are of type 06"
    assert (
        found[f"slide {B}-06A-01-TS1"]["reason"]
        == "of sample type 06, but the expression is of type 01"
    )
    assert not found[f"slide {B}-06A-01-TS1"]["kept"]


def test_where_the_expression_states_no_type_slides_of_the_primary_tumour_come_first(
    tmp_path: Path,
) -> None:
    join(tmp_path, [(A, [1, 1, 1])], [entry(SLIDE_A), entry(f"{A}-06A-01-TS1"), entry(f"{A}_scan")])
    found = report(tmp_path)
    assert found[f"slide {A}-06A-01-TS1"]["reason"] == "a slide of type 01 is preferred"
    assert found[f"slide {SLIDE_A}"]["kept"]
    assert found[f"slide {A}_scan"]["kept"]


def test_primary_tumour_comes_first(tmp_path: Path) -> None:
    rows = [(f"{A}-06A", [6, 6, 6]), (f"{A}-01A", [1, 1, 1]), (f"{A}-11A", [9, 9, 9])]
    join(tmp_path, rows, [entry(f"{A}_scan")])
    assert profiles(tmp_path) == {A: [1, 1, 1]}
    found = report(tmp_path)
    assert found[f"sample {A}-06A"]["reason"] == "a sample of type 01 is preferred"
    assert found[f"sample {A}-11A"]["reason"] == "not a tumour sample"


def test_replicates_are_averaged_and_repeated_rows_counted_once(tmp_path: Path) -> None:
    rows = [
        (f"{A}-01A", [1, 2, 3]),
        (f"{A}-01B", [3, 4, 5]),
        (f"{A}-01A", [1, 2, 3]),
        (B, [7, 8, 9]),
        (B, [7, 8, 9]),
    ]
    join(tmp_path, rows, [entry(SLIDE_A), entry(SLIDE_B)])
    assert profiles(tmp_path) == {A: [2, 3, 4], B: [7, 8, 9]}
    table = pd.read_csv(tmp_path / "join_report.csv", keep_default_na=False)
    samples = table[table["kind"] == "sample"]
    averaged, repeated = "one of 2 replicates, averaged", "repeats an identical row"
    assert samples["reason"].tolist() == [averaged, averaged, repeated, "", repeated]
    assert samples["kept"].tolist() == [True, True, False, True, False]
    assert read_cohort(tmp_path / "cohort.h5ad").obs["n_samples"].tolist() == [2, 1]


def test_normal_tissue_joins_nothing(tmp_path: Path) -> None:
    rows = [(f"{A}-11A", [1, 1, 1]), (f"{B}-01A", [2, 2, 2])]
    slides = [entry(SLIDE_A), entry(SLIDE_B), entry(f"{B}-11A-01-TS1")]
    join(tmp_path, rows, slides)
    found = report(tmp_path)
    assert profiles(tmp_path) == {B: [2, 2, 2]}
    assert found[f"slide {SLIDE_A}"]["reason"] == "no tumour expression of this patient"
    assert found[f"slide {B}-11A-01-TS1"]["reason"] == "not a slide of tumour tissue"
    with pytest.raises(
        InputError, match=r"bulk.csv: no sample can be used; .*: not a tumour sample"
    ):
        join(tmp_path, rows[:1], slides)


def test_several_tables_keep_their_genes_in_common(tmp_path: Path) -> None:
    first = table(tmp_path, [(A, [-1, 2, -3])], "first.csv", "ABC")
    second = table(tmp_path, [(B, [4, -5, 6])], "second.csv", "CBD")
    slides = [entry(SLIDE_A), entry(SLIDE_B)]
    write_cohort([first, second], slides, tmp_path / "cohort.h5ad", BulkConfig(unit="zscore"))
    cohort = read_cohort(tmp_path / "cohort.h5ad")
    assert cohort.var_names.tolist() == ["B", "C"]
    assert np.asarray(cohort.X).tolist() == [[2, -3], [-5, 4]]
    assert cohort.obs["source"].tolist() == ["first.csv", "second.csv"]
    assert cohort_meta(cohort)["genes_left_out"] == {"not in every table": 2, "without a value": 0}
    third = table(tmp_path, [(B, [-4, 5, 6])], "third.csv", "XYZ")
    with pytest.raises(
        InputError, match=r"third.csv: its genes are in no other table: it names X, Y, Z"
    ):
        write_cohort([first, third], slides, tmp_path / "cohort.h5ad", BulkConfig(unit="zscore"))
    first = table(tmp_path, [(A, [1, 2, 3])], "first.csv", "ABC")
    second = table(tmp_path, [(B, [4, 5, 6])], "second.csv", "CBD")
    with pytest.raises(
        InputError, match=r"second.csv: its genes are not those of the other tables \(2 differ\)"
    ):
        write_cohort([first, second], slides, tmp_path / "cohort.h5ad", BulkConfig(unit="counts"))


def test_genes_without_any_value_are_left_out(tmp_path: Path) -> None:
    join(tmp_path, [(A, [1, np.nan, 3])], [entry(SLIDE_A)])
    assert profiles(tmp_path) == {A: [1, 3]}
    assert (
        cohort_meta(read_cohort(tmp_path / "cohort.h5ad"))["genes_left_out"]["without a value"] == 1
    )


def test_nothing_is_written_when_the_join_fails(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=f"no patient in common with the slides: it names {B}, .*{A}"
    ) as caught:
        join(tmp_path, [(B, [1, 2, 3]), (f"{B}-01A", [4, 5, 6])], [entry(SLIDE_A)])
    assert "bulk.csv" in str(caught.value)
    with pytest.raises(InputError, match="log2"):
        join(tmp_path, [(A, [-1, 2, 3])], [entry(SLIDE_A)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bulk.csv"]


def test_the_file_to_write_is_an_h5ad(tmp_path: Path) -> None:
    path = table(tmp_path, [(A, [1, 2, 3])])
    with pytest.raises(InputError, match=r"cohort: is not named \.h5ad"):
        write_cohort([path], [entry(SLIDE_A)], tmp_path / "cohort", BulkConfig(unit="fpkm"))


def test_a_slide_listed_under_another_patient_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"slide {SLIDE_A} is listed under patient {B}"):
        join(tmp_path, [(A, [1, 2, 3])], [entry(SLIDE_A, B)])


def test_patient_ids_may_be_longer_barcodes(tmp_path: Path) -> None:
    join(tmp_path, [(A, [1, 2, 3])], [entry(SLIDE_A, f"{A}-01A")])
    assert slides_of(read_cohort(tmp_path / "cohort.h5ad"))["patient_id"].tolist() == [A]


def test_expression_without_slides_keeps_every_patient_with_a_tumour_sample(tmp_path: Path) -> None:
    rows = [
        (f"{A}-06A", [6, 6, 6]),
        (f"{A}-01A", [1, 1, 1]),
        (f"{B}-11A", [9, 9, 9]),
        ("P1", [2, 3, 4]),
    ]
    summary = write_cohort(
        [table(tmp_path, rows)], None, tmp_path / "cohort.h5ad", BulkConfig(unit="fpkm")
    )
    assert (summary.slides, summary.slides_kept, summary.patients) == (0, 0, 2)
    assert profiles(tmp_path) == {"P1": [2, 3, 4], A: [1, 1, 1]}
    cohort = read_cohort(tmp_path / "cohort.h5ad")
    assert cohort.obs["n_slides"].tolist() == [0, 0]
    assert slides_of(cohort).empty
    found = report(tmp_path)
    assert found[f"sample {A}-06A"]["reason"] == "a sample of type 01 is preferred"
    assert found[f"sample {B}-11A"]["reason"] == "not a tumour sample"
    with pytest.raises(InputError, match=r"no sample can be used; .*: not a tumour sample"):
        write_cohort(
            [table(tmp_path, rows[2:3])], None, tmp_path / "other.h5ad", BulkConfig(unit="fpkm")
        )


def test_sections_that_stand_for_patients_name_their_donor(tmp_path: Path) -> None:
    rows = ("slide_id,patient_id,path,donor", "C2,C2,C2.tiff,C", "C3,C3,C3.tiff,C", "X,X,X.tiff,")
    (tmp_path / "slides.csv").write_text("\n".join(rows))
    path = table(tmp_path, [("C2", [1, 2, 3]), ("C3", [4, 5, 6]), ("X", [7, 8, 9])])
    write_cohort(
        [path],
        find_slides(tmp_path / "slides.csv"),
        tmp_path / "cohort.h5ad",
        BulkConfig(unit="fpkm"),
    )
    assert read_cohort(tmp_path / "cohort.h5ad").obs["donor"].to_dict() == {
        "C2": "C",
        "C3": "C",
        "X": "X",
    }


def test_the_cohort_says_how_each_table_was_read(tmp_path: Path) -> None:
    path = tmp_path / "xena.csv"
    pd.DataFrame([[1, 2], [3, 4]], index=["G1", "G2"], columns=[f"{A}-01A", f"{B}-01A"]).to_csv(
        path
    )
    write_cohort(
        [path], [entry(SLIDE_A), entry(SLIDE_B)], tmp_path / "cohort.h5ad", BulkConfig(unit="fpkm")
    )
    assert profiles(tmp_path) == {A: [1, 3], B: [2, 4]}
    assert cohort_meta(read_cohort(tmp_path / "cohort.h5ad"))["layouts"] == {
        "xena.csv": "genes-by-samples"
    }


def test_totals_and_reasons_are_written(tmp_path: Path) -> None:
    rows = [
        (f"{A}-01A", [1, 2, 3]),
        (f"{A}-11A", [1, 1, 1]),
        (f"{B}-01A", [4, 5, 6]),
        ("x", [7, 8, 9]),
    ]
    clinical = tmp_path / "clinical.csv"
    clinical.write_text(
        f"patient_id,OS_time_days,OS_event,PFI_time_days,PFI_event\n{A},100,1,,\nother,50,1,20,1\n"
    )
    summary = write_cohort(
        [table(tmp_path, rows)],
        [entry(SLIDE_A), entry(SLIDE_B), entry("alone")],
        tmp_path / "cohort.h5ad",
        BulkConfig(unit="fpkm", clinical=clinical),
    )
    found = json.loads((tmp_path / "join_summary.json").read_text())
    assert found["join"] == {
        "slides": 3,
        "slides_kept": 2,
        "samples": 4,
        "samples_kept": 2,
        "patients": 2,
        "genes": 3,
        "unit": "fpkm",
        "key": summary.key,
        "outcomes": {"OS": {"patients": 1, "events": 1}, "PFI": {"patients": 0, "events": 0}},
        "sample_types": {"primary tumour": 2},
        "preservation": {"not stated": 2},
    }
    assert found["dropped"] == {
        "slide: no expression of this patient": 1,
        "sample: not a tumour sample": 1,
        "sample: no slide of this patient": 1,
    }
    assert "OS: 1 of them with an outcome, 1 events" in str(summary)
    clinical.write_text("patient_id,OS_time_days,OS_event\nother,50,1\n")
    with pytest.raises(
        InputError, match=r"clinical\.csv: holds no outcome of the cohort's patients"
    ):
        write_cohort(
            [table(tmp_path, rows)],
            [entry(SLIDE_A)],
            tmp_path / "cohort.h5ad",
            BulkConfig(unit="fpkm", clinical=clinical),
        )


@pytest.mark.realdata
def test_tcga_regions_join_their_z_scores(real_data: Path, tmp_path: Path) -> None:
    manifest = pd.read_csv(real_data / "tcga_tiles" / "manifest.csv")
    tables = [
        real_data / "tcga_expression" / f"tcga_{name}_all_clean.csv.zip"
        for name in sorted(set(manifest["porpoise_cohort"]) - {"kirc"})
    ]
    slides = find_slides(real_data / "tcga_tiles")
    summary = write_cohort(tables, slides, tmp_path / "cohort.h5ad", BulkConfig(unit="zscore"))
    assert (summary.slides, summary.slides_kept, summary.patients) == (26, 24, 24)
    rows = pd.read_csv(tmp_path / "join_report.csv")
    lost = rows[(rows["kind"] == "slide") & ~rows["kept"]]
    assert sorted(lost["patient_id"]) == ["TCGA-B0-5698", "TCGA-B0-5710"]
    assert set(lost["reason"]) == {"no expression of this patient"}
    assert read_cohort(tmp_path / "cohort.h5ad").obs["n_samples"].eq(1).all()
