"""Tests of listing slides for a join, with files or by a table of slides and patients alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.cohort_file import read_cohort, slides_of
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.clinical.options import ClinicalOptions
from tcgn_mil.preprocessing.clinical.run import write_clinical
from tcgn_mil.preprocessing.slides.names import list_slides

A, B = "TCGA-AA-0001", "TCGA-BB-0002"


def save(folder: Path, text: str | bytes, name: str = "manifest.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def pairs(path: Path) -> list[tuple[str, str]]:
    return [(entry.slide_id, entry.patient_id) for entry in list_slides(path)]


@pytest.mark.parametrize(
    "text",
    [
        "slide_id,patient_id\ns1,Müller\ns2,P2\n",
        "\ufeffSlide_ID,Patient_ID\r\ns1,Müller\r\ns2,P2\r\n\r\n,\r\n",  # a spreadsheet's
        'case_id,note,slide_id\nMüller,"a, quoted",s1.svs\nP2,,s2.ome.tiff\n',
        "slide_id;patient_id\ns1;Müller\ns2;P2\n",
        "slide_id\tpatient_id\ns1\tMüller\ns2\tP2\n",
    ],
)
def test_dialects_of_one_manifest(tmp_path: Path, text: str) -> None:
    assert pairs(save(tmp_path, text)) == [("s1", "Müller"), ("s2", "P2")]


def test_tcga_names_say_whose_they_are(tmp_path: Path) -> None:
    path = save(tmp_path, f"Barcode,area\n{A}-01Z-00-DX1.ABC.svs,1\n{B}-01A-01-TS1,2\n")
    assert pairs(path) == [(f"{A}-01Z-00-DX1.ABC", A), (f"{B}-01A-01-TS1", B)]


def test_packed_tables_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "slides.csv.zip", "w") as archive:
        archive.writestr("slides.csv", "slide_id,patient_id\ns1,P1\n")
    assert pairs(tmp_path / "slides.csv.zip") == [("s1", "P1")]


def test_a_table_with_paths_is_that_of_tiling(tmp_path: Path) -> None:
    (entry,) = list_slides(save(tmp_path, "slide_id,patient_id,path\ns1,P1,a.svs\n"))
    assert entry.path == tmp_path / "a.svs"


def test_the_site_of_a_tcga_slide_is_that_of_its_name(tmp_path: Path) -> None:
    path = save(tmp_path, f"slide_id,patient_id,site\n{A}-01Z-00-DX1,{A},7\ns2,P2,7\n")
    assert [entry.site for entry in list_slides(path)] == [None, "7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,age\na,1\n",
            r"manifest\.csv: names no slides: it has the columns name, age.*column path",
        ),
        (
            "slide_id,patient_id\ns1,P1\ns1,P2\n",
            r"column slide_id, row 3: 's1' appears more than once",
        ),
        ("slide_id,patient_id\ns1.svs,P1\ns1.tif,P2\n", r"row 3: 's1' appears more than once"),
        (
            "slide_id,patient_id\n../s1,P1\n",
            r"column slide_id, row 2: '\.\./s1' is not a plain file name",
        ),
        ("slide_id,patient_id\ns1,\n", r"column patient_id, row 2: '' is blank"),
        ("slide_id,patient_id\n,P1\n", r"column slide_id, row 2: '' is blank"),
        ("slide_id,age\ns1,5\n", r"does not say whose slide s1 is.*add a column patient_id"),
        ("slide_id,patient_id\ns1,P1\ns2,P2,extra\n", "line 3 has 3 cells under 2 columns"),
        (b"slide_id,patient_id\ns1,M\xfcller\n", "cannot be read as a table"),
        ("", "holds no rows"),
    ],
)
def test_what_is_wrong_is_said_with_column_row_and_fix(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        list_slides(save(tmp_path, text))
    assert "manifest.csv" in str(caught.value)
    assert caught.value.fix


def test_a_workbook_is_not_taken_for_a_slide(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"slides\.xlsx: is neither a slide nor a CSV or TSV"):
        list_slides(save(tmp_path, "x", "slides.xlsx"))


@pytest.mark.realdata
class TestPublicCohorts:
    """The totals are those that the README of the data states."""

    def test_porpoise_brca(self, real_data: Path, tmp_path: Path) -> None:
        path = real_data / "tcga_expression" / "tcga_brca_all_clean.csv.zip"
        write_clinical([path], tmp_path / "clinical.csv", ClinicalOptions(), layouts=["porpoise"])
        summary = write_cohort(
            [path],
            list_slides(path),
            tmp_path / "cohort.h5ad",
            BulkConfig(unit="zscore", clinical=tmp_path / "clinical.csv"),
        )
        assert (summary.slides, summary.slides_kept, summary.patients) == (1022, 1022, 956)
        assert summary.outcomes == {"OS": {"patients": 956, "events": 130}}
        assert "956 patients" in str(summary)
        assert "130 events" in str(summary)
        assert len(slides_of(read_cohort(tmp_path / "cohort.h5ad"))) == 1022

    def test_colorectal_slides_with_features_and_rna(self, real_data: Path, tmp_path: Path) -> None:
        summary = write_cohort(
            [real_data / "tcga_expression" / "tcga_coadread_all_clean.csv.zip"],
            list_slides(real_data / "tcga_slide_features" / "CRC_nucleus_morphology.csv"),
            tmp_path / "cohort.h5ad",
            BulkConfig(unit="zscore"),
        )
        assert (summary.slides, summary.slides_kept, summary.patients) == (315, 274, 272)
        rows = pd.read_csv(tmp_path / "join_report.csv")
        slides = rows[rows["kind"] == "slide"]
        assert (
            len(slides),
            int(slides["kept"].sum()),
            slides[slides["kept"]]["patient_id"].nunique(),
        ) == (
            315,
            274,
            272,
        )
        assert np.isin(slides["preparation"], ["diagnostic"]).all()

    def test_tcga_regions_by_their_manifest(self, real_data: Path, tmp_path: Path) -> None:
        manifest = real_data / "tcga_tiles" / "manifest.csv"
        cohorts = sorted(set(pd.read_csv(manifest)["porpoise_cohort"]) - {"kirc"})
        tables = [
            real_data / "tcga_expression" / f"tcga_{name}_all_clean.csv.zip" for name in cohorts
        ]
        summary = write_cohort(
            tables, list_slides(manifest), tmp_path / "cohort.h5ad", BulkConfig(unit="zscore")
        )
        assert (summary.slides, summary.slides_kept, summary.patients) == (26, 24, 24)

    def test_tcga_regions_with_the_21_genes_of_six_cohorts(
        self, real_data: Path, tmp_path: Path
    ) -> None:
        manifest, table = (
            real_data / "tcga_tiles" / "manifest.csv",
            real_data / "tcga_expression/tcga_expanded_tpm.csv",
        )
        summary = write_cohort(
            [table], list_slides(manifest), tmp_path / "cohort.h5ad", BulkConfig(unit="tpm-subset")
        )
        cases = set(pd.read_csv(table)["case_barcode"])
        there = pd.read_csv(manifest)["case_id"].isin(cases)
        assert (summary.slides, summary.slides_kept, summary.patients) == (26, int(there.sum()), 14)
        assert summary.key == "TCGA sample (15 characters)"
        dropped = pd.read_csv(tmp_path / "join_report.csv").query("kind == 'slide' and not kept")
        assert set(dropped["reason"]) == {"no expression of this patient"}

    def test_sequoia_names_its_slides_and_its_rna(self, real_data: Path, tmp_path: Path) -> None:
        path = real_data / "tcga_expression" / "sequoia_ref_file.csv"
        summary = write_cohort(
            [path], list_slides(path), tmp_path / "cohort.h5ad", BulkConfig(unit="log2(fpkm+1)")
        )
        assert (summary.slides_kept, summary.samples_kept, summary.patients, summary.genes) == (
            5,
            3,
            3,
            20820,
        )
        assert summary.key == "TCGA patient (12 characters)"

    def test_survpath_toil_values_join_slides_with_features(
        self, real_data: Path, tmp_path: Path
    ) -> None:
        path = real_data / "tcga_expression" / "survpath_xena_coadread_rna_clean.csv"
        manifest = real_data / "tcga_slide_features" / "CRC_nucleus_morphology.csv"
        summary = write_cohort(
            [path],
            list_slides(manifest),
            tmp_path / "cohort.h5ad",
            BulkConfig(unit="log2(tpm+0.001)"),
        )
        slides = pd.read_csv(manifest)["Barcode"].str[:12]
        patients = set(slides) & set(pd.read_csv(path, usecols=[0]).iloc[:, 0])
        assert (summary.slides_kept, summary.patients) == (
            int(slides.isin(patients).sum()),
            len(patients),
        )
