"""The join of expression and slides: chosen samples, the key and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcgn_mil.errors import InputError
from tcgn_mil.io.cohort_file import cohort_meta, cohort_unit, read_cohort, slides_of
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.patient_join import JoinRow, join_patients
from tcgn_mil.preprocessing.bulk.reports import JoinSummary
from tcgn_mil.preprocessing.bulk.run import average_by_patient, write_cohort
from tcgn_mil.preprocessing.bulk.specimens import sample_specimens, slide_specimens
from tcgn_mil.preprocessing.slides.table import SlideEntry, find_slides
from tcgn_mil.tcga_barcodes import parse_barcode

A, B = "TCGA-AA-0001", "TCGA-BB-0002"
SLIDE_A, SLIDE_B = f"{A}-01Z-00-DX1", f"{B}-01A-01-TS1"


def entry(slide_id: str, patient: str | None = None) -> SlideEntry:
    return SlideEntry(slide_id, patient or slide_id[:12], Path(f"{slide_id}.svs"))


def table(
    tmp_path: Path,
    rows: Sequence[tuple[str, Sequence[float]]],
    name: str = "bulk.csv",
    genes: str = "ABC",
) -> Path:
    path = tmp_path / name
    pd.DataFrame(
        [values for _, values in rows], index=[name for name, _ in rows], columns=list(genes)
    ).to_csv(path)
    return path


def join(
    tmp_path: Path, rows: Sequence[tuple[str, Sequence[float]]], slides: Sequence[SlideEntry]
) -> JoinSummary:
    return write_cohort(
        [table(tmp_path, rows)], slides, tmp_path / "cohort.h5ad", BulkConfig(unit="fpkm")
    )


def report(tmp_path: Path) -> dict[str, Mapping[str, object]]:
    rows = pd.read_csv(tmp_path / "join_report.csv", keep_default_na=False).to_dict("records")
    return {f"{row['kind']} {row['id']}": row for row in rows}


def profiles(tmp_path: Path) -> dict[str, list[float]]:
    cohort = read_cohort(tmp_path / "cohort.h5ad")
    return dict(zip(cohort.obs_names, np.asarray(cohort.X).tolist(), strict=True))


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


class TestPreparation:
    ROWS = ((f"{A}-01A", [1, 2, 3]), (f"{B}-01A", [4, 5, 6]))
    SLIDES = (SLIDE_A, f"{A}-01A-01-BS1", SLIDE_B, "TCGA-BB-0002_scan")

    @pytest.mark.parametrize(
        ("preparation", "kept"),
        [
            ("any", SLIDES),
            ("diagnostic", (SLIDE_A,)),
            ("frozen", (f"{A}-01A-01-BS1", SLIDE_B)),
        ],
    )
    def test_slides_of_the_preparation_asked_for(
        self, tmp_path: Path, preparation: str, kept: tuple[str, ...]
    ) -> None:
        write_cohort(
            [table(tmp_path, self.ROWS)],
            [entry(name) for name in self.SLIDES],
            tmp_path / "cohort.h5ad",
            BulkConfig(unit="fpkm", preparation=preparation),
        )
        found = report(tmp_path)
        assert tuple(name for name in self.SLIDES if found[f"slide {name}"]["kept"]) == kept
        assert cohort_meta(read_cohort(tmp_path / "cohort.h5ad"))["preparation"] == preparation
        if preparation == "diagnostic":
            assert found[f"slide {SLIDE_B}"]["reason"] == "a frozen slide"
            assert (
                found["slide TCGA-BB-0002_scan"]["reason"]
                == "its name says neither diagnostic nor frozen"
            )
            reason = "no slide of this patient is of the preparation asked for"
            assert found[f"sample {B}-01A"]["reason"] == reason

    def test_an_unknown_one_names_the_known(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"unknown preparation 'ffpe'.*any, diagnostic, frozen"
        ):
            write_cohort(
                [table(tmp_path, self.ROWS)],
                [entry(SLIDE_A)],
                tmp_path / "cohort.h5ad",
                BulkConfig(unit="fpkm", preparation="ffpe"),
            )


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


TCGA = st.sampled_from([A, B])
SLIDE = st.one_of(
    st.builds(
        str.__add__,
        TCGA,
        st.sampled_from(["-01Z-00-DX1", "-01A-01-TS1", "-06A-01-TS1", "-11A-01-BS1", "_scan"]),
    ),
    st.just("own"),
)
SAMPLE = st.tuples(
    st.one_of(
        st.builds(str.__add__, TCGA, st.sampled_from(["", "-01A", "-01B", "-06A", "-11A"])),
        st.just("own"),
    ),
    st.integers(0, 3),
)
SLIDES, SAMPLES = st.lists(SLIDE, unique=True, max_size=6), st.lists(SAMPLE, max_size=8)
Named = list[tuple[str, int]]


class TestAnyJoin:
    @staticmethod
    def of(slides: list[str], samples: Named) -> tuple[list[JoinRow], list[JoinRow]]:
        return join_patients(
            slide_specimens([entry(name) for name in slides]),
            sample_specimens(
                [name for name, _ in samples], [bytes([value]) for _, value in samples]
            ),
        )

    @staticmethod
    def profiles(rows: list[JoinRow], samples: Named) -> dict[str, list[int]]:
        """Values of the kept samples, by patient."""
        kept = [
            (row.patient_id, value)
            for row, (_, value) in zip(rows, samples, strict=True)
            if row.kept
        ]
        return {
            patient: sorted(value for one, value in kept if one == patient) for patient, _ in kept
        }

    @given(SLIDES, SAMPLES)
    @example([SLIDE_A, f"{A}-06A-01-TS1"], [(A, 0)])
    @example([f"{A}-06A-01-TS1", f"{A}_s"], [(A, 0), (f"{A}-01A", 1)])
    def test_every_slide_and_sample_is_reported_once_and_kept_with_its_like(
        self, slides: list[str], samples: Named
    ) -> None:
        slide_rows, sample_rows = self.of(slides, samples)
        assert [row.id for row in slide_rows] == slides
        assert [row.id for row in sample_rows] == [name for name, _ in samples]
        assert all(row.kept or row.reason for row in (*slide_rows, *sample_rows))
        kept = [row for row in (*slide_rows, *sample_rows) if row.kept]
        assert {row.patient_id for row in slide_rows if row.kept} == {
            row.patient_id for row in sample_rows if row.kept
        }
        assert not any("-11A" in row.id for row in kept)
        for patient in {row.patient_id for row in kept}:
            types = {
                parse_barcode(row.id).sample_type
                for row in kept
                if row.patient_id == patient != "own"
            }
            assert len(types - {None}) <= 1

    @given(SLIDES, SAMPLES, st.randoms(use_true_random=False))
    def test_order_does_not_matter(self, slides: list[str], samples: Named, random: Random) -> None:
        shuffled, mixed = random.sample(slides, len(slides)), random.sample(samples, len(samples))
        (slide_rows, sample_rows), (other_slides, other_samples) = (
            self.of(slides, samples),
            self.of(shuffled, mixed),
        )
        assert set(slide_rows) == set(other_slides)
        assert self.profiles(sample_rows, samples) == self.profiles(other_samples, mixed)

    @given(SLIDES, SAMPLES, TCGA)
    def test_normal_tissue_changes_nothing(
        self, slides: list[str], samples: Named, patient: str
    ) -> None:
        more = [*samples, (f"{patient}-11A", 9)]
        assert self.profiles(self.of(slides, samples)[1], samples) == self.profiles(
            self.of(slides, more)[1], more
        )


VALUE = st.one_of(st.floats(-100, 1e4, width=32), st.just(float("nan")))


@given(
    st.lists(st.tuples(st.sampled_from("PQR"), VALUE, VALUE), min_size=1, max_size=9), st.randoms()
)
def test_a_patient_is_the_mean_of_its_known_replicates(
    rows: list[tuple[str, float, float]], random: Random
) -> None:
    def average(rows: list[tuple[str, float, float]]) -> pd.DataFrame:
        values = pd.DataFrame([row[1:] for row in rows], columns=["A", "B"], dtype=np.float32)
        return average_by_patient(values, np.array([row[0] for row in rows]))

    found = average(rows)
    assert found.index.tolist() == sorted({row[0] for row in rows})
    for patient in found.index:
        for position, gene in enumerate("AB", start=1):
            known = [
                row[position] for row in rows if row[0] == patient and not np.isnan(row[position])
            ]
            expected = sum(known) / len(known) if known else np.nan
            assert found.loc[patient, gene] == pytest.approx(
                expected, rel=1e-5, abs=1e-3, nan_ok=True
            )
    pd.testing.assert_frame_equal(
        average(random.sample(rows, len(rows))), found, rtol=1e-5, atol=1e-3
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
