"""Folders of GDC files: the sheet names the samples, the unit chooses the column."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.cohort_file import read_cohort
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.expression_table import ExpressionTable, Person
from tcgn_mil.preprocessing.bulk.readers import read_expression_table
from tcgn_mil.preprocessing.bulk.readers.gdc import COLUMNS, SUFFIX
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.types.units import ExpressionUnit

GENES = (
    ("ENSG00000000003.15", "TSPAN6"),
    ("ENSG00000000005.6", "TNMD"),
    ("ENSG00000002586.20_PAR_Y", "CD99"),
    ("ENSG00000002586.20", "CD99"),
)
A, B, C = "TCGA-AA-0001", "TCGA-BB-0002", "TCGA-CC-0003"
COUNTS, TPM = ExpressionUnit.parse("counts"), ExpressionUnit.parse("tpm")


def star_counts(values: Sequence[int], genes: Sequence[tuple[str, str]] = GENES) -> str:
    """A STAR-count file: counts as given, TPM and FPKM other than they."""
    counted, scaled = (
        ("unstranded", "stranded_first", "stranded_second"),
        ("tpm", "fpkm", "fpkm_uq"),
    )
    header = [
        "gene_id",
        "gene_name",
        "gene_type",
        *counted,
        *(f"{name}_unstranded" for name in scaled),
    ]
    lines = ["# gene-model: GENCODE v36", "\t".join(header)]
    of_none = ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")
    lines += [f"{name}\t\t\t1000\t1000\t1000\t\t\t" for name in of_none]
    total = sum(values)
    for (gene, symbol), count in zip(genes, values, strict=True):
        tpm = 1e6 * count / total
        lines.append(
            f"{gene}\t{symbol}\tprotein_coding\t{count}\t{count}\t0"
            f"\t{tpm:.4f}\t{tpm / 4:.4f}\t{tpm / 3:.4f}"
        )
    return "\n".join(lines) + "\n"


Row = tuple[str, str, str, str]  # name, case, sample, sample type


def sheet(rows: Sequence[Row], *, end: str = "\n") -> str:
    header = (
        "File ID\tFile Name\tData Category\tData Type\tProject ID\tCase ID\tSample ID\tSample Type"
    )
    body = [
        f"id-{name}\t{name}{SUFFIX}\tTranscriptome Profiling\tGene Expression\tTCGA-XX"
        f"\t{case}\t{sample}\t{kind}"
        for name, case, sample, kind in rows
    ]
    return end.join([header, *body, ""])


ROWS: tuple[Row, ...] = (
    ("one", A, f"{A}-01A", "Primary Tumor"),
    ("two", B, f"{B}-01A", "Primary Tumor"),
    ("three", A, f"{A}-11A", "Solid Tissue Normal"),
)
VALUES = {"one": (10, 20, 0, 30), "two": (5, 5, 0, 90), "three": (1, 1, 0, 8)}


@pytest.fixture
def make_gdc(tmp_path: Path) -> Callable[..., Path]:
    """A folder as the GDC's client leaves it: a folder for each file, the sheet beside them."""

    def make(rows: Sequence[Row] = ROWS, *, end: str = "\n") -> Path:
        folder = tmp_path / "gdc"
        folder.mkdir()
        (folder / "gdc_sample_sheet.2024-01-01.tsv").write_bytes(sheet(rows, end=end).encode())
        for name, values in VALUES.items():
            (folder / f"id-{name}").mkdir()
            (folder / f"id-{name}" / f"{name}{SUFFIX}").write_text(star_counts(values))
        return folder

    return make


def read_gdc_files(folder: Path, unit: ExpressionUnit) -> ExpressionTable:
    return read_expression_table(folder, layout="gdc", unit=unit)


def file_of(folder: Path, name: str) -> Path:
    return folder / f"id-{name}" / f"{name}{SUFFIX}"


@pytest.mark.parametrize(
    ("end", "mark", "blank"), [("\n", "", ""), ("\r\n", "", ""), ("\n", "\ufeff", "\n\n")]
)
def test_the_unit_chooses_the_column(
    make_gdc: Callable[..., Path], end: str, mark: str, blank: str
) -> None:
    folder = make_gdc(end=end)
    path = next(folder.glob("*.tsv"))
    path.write_bytes(mark.encode() + path.read_bytes() + blank.encode())
    table = read_gdc_files(folder, COUNTS)
    assert table.values.index.tolist() == [row[2] for row in ROWS]
    assert table.values.columns.tolist() == [gene for gene, _ in GENES]
    assert table.symbols == ("TSPAN6", "TNMD", "CD99", "CD99")
    assert table.people == (Person(A, True, 1), Person(B, True, 1), Person(A, False))
    assert table.values.to_numpy().tolist() == [list(values) for values in VALUES.values()]
    assert not table.failures
    tpm = read_gdc_files(folder, TPM).values
    assert np.allclose(tpm.sum(axis=1), 1e6, rtol=1e-5)
    for unit, share in (("fpkm", 4), ("fpkm-uq", 3)):
        assert np.allclose(
            read_gdc_files(folder, ExpressionUnit.parse(unit)).values * share, tpm, rtol=1e-4
        )


def test_files_may_lie_in_one_folder_and_be_packed(make_gdc: Callable[..., Path]) -> None:
    folder = make_gdc()
    whole = read_gdc_files(folder, COUNTS).values
    for name in ("one", "two"):
        path = file_of(folder, name)
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    table = read_gdc_files(folder, COUNTS)
    pd.testing.assert_frame_equal(table.values, whole)
    assert not table.failures


def test_a_file_of_several_portions_of_one_sample(make_gdc: Callable[..., Path]) -> None:
    rows = [("one", f"{A}, {A}", f"{A}-01A, {A}-01A", "Primary Tumor, Primary Tumor"), *ROWS[1:]]
    assert read_gdc_files(make_gdc(rows), COUNTS).values.index[0] == f"{A}-01A"


class TestKindsOfSamples:
    """Sheets since 2024 have no Sample Type, and names of other studies state no type."""

    NEW = ("Tissue Type", "Tumor Descriptor", "Specimen Type")

    @staticmethod
    def retype(
        folder: Path, columns: Sequence[str], *cells: Sequence[str], names: Sequence[str] = ()
    ) -> None:
        """Replace Sample Type by these columns, and the samples of the sheet by these names."""
        path = next(folder.glob("*.tsv"))
        table = pd.read_csv(path, sep="\t").drop(columns="Sample Type")
        if names:
            table["Case ID"], table["Sample ID"] = "C3L-1", names
        table[list(columns)] = list(cells)
        table.to_csv(path, sep="\t", index=False)

    def test_a_sheet_without_sample_type(self, make_gdc: Callable[..., Path]) -> None:
        folder = make_gdc()
        tumour = ("Tumor", "Primary", "Solid Tissue")
        self.retype(folder, self.NEW, tumour, tumour, ("Normal", "Not Applicable", "Solid Tissue"))
        assert read_gdc_files(folder, COUNTS).people == (
            Person(A, True, 1),
            Person(B, True, 1),
            Person(A, False),
        )

    @pytest.mark.parametrize(
        ("columns", "cells"),
        [
            (("Sample Type",), (["Recurrent Tumor"], ["Primary Tumor"], ["Metastatic"])),
            (NEW[:2], (["Tumor", "Recurrence"], ["Tumor", "Primary"], ["Tumor", "Metastatic"])),
        ],
    )
    def test_of_another_study_the_primary_tumour_comes_first(
        self,
        make_gdc: Callable[..., Path],
        tmp_path: Path,
        columns: Sequence[str],
        cells: Sequence[Sequence[str]],
    ) -> None:
        folder = make_gdc()
        self.retype(folder, columns, *cells, names=["s1", "s2", "s3"])
        out = tmp_path / "out" / "cohort.h5ad"
        write_cohort(
            [folder], [SlideEntry("slide", "C3L-1", Path("x"))], out, BulkConfig(unit="counts")
        )
        assert np.asarray(read_cohort(out).X).tolist() == [[5, 5, 90]]
        report = pd.read_csv(out.with_name("join_report.csv"), keep_default_na=False).set_index(
            "id"
        )
        assert report["kept"].to_dict() == {"slide": True, "s1": False, "s2": True, "s3": False}
        assert (
            report.loc["s1", "reason"]
            == report.loc["s3", "reason"]
            == "a sample of type 01 is preferred"
        )

    @pytest.mark.parametrize(
        "kind",
        [
            "Solid Tissue Normal",
            "Blood Derived Normal",
            "Control Analyte",
            "Cell Lines",
            "Peritumoral",
            "Primary Xenograft Tissue",
            "Next Generation Cancer Model",
        ],
    )
    def test_what_is_no_tumour_of_the_patient(
        self, make_gdc: Callable[..., Path], kind: str
    ) -> None:
        folder = make_gdc()
        self.retype(
            folder, ("Sample Type",), [kind], ["Primary Tumor"], [""], names=["s1", "s2", "s3"]
        )
        people = read_gdc_files(folder, COUNTS).people
        assert people == (Person("C3L-1", False), Person("C3L-1", True, 1), Person("C3L-1", True))

    def test_a_sheet_that_says_nothing_is_enough_for_tcga_names_alone(
        self, make_gdc: Callable[..., Path]
    ) -> None:
        folder = make_gdc()
        self.retype(folder, ("Preservation Method",), ["OCT"], ["OCT"], ["OCT"])
        assert len(read_gdc_files(folder, COUNTS).values) == 3
        path = next(folder.glob("*.tsv"))
        path.write_text(path.read_text().replace(f"{B}-01A", "s2"))
        with pytest.raises(
            InputError,
            match=r"row 3: neither the sheet nor its name says whether sample s2 is of a",
        ):
            read_gdc_files(folder, COUNTS)


def reorder(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:6], lines[7], lines[6], *lines[8:], ""]))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "the file is missing"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as STAR counts"),
    "other text": (
        lambda path: path.write_text("no\tcounts\n1\t2\n"),
        "cannot be read as STAR counts",
    ),
    "cut off in a line": (lambda path: path.write_bytes(path.read_bytes()[:-12]), "is cut off"),
    "cut off between lines": (
        lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1])),
        r"names other genes \(3\) than most files \(4\): lacks 1 and adds 0",
    ),
    "genes in another order": (reorder, "has another order"),
    "other genes": (
        lambda path: path.write_text(
            star_counts(VALUES["two"], [("ENSG00000000009.1", "X"), *GENES[1:]])
        ),
        "lacks 1 and adds 1",
    ),
    "text among numbers": (
        lambda path: path.write_text(path.read_text().replace("\t90\t", "\tmany\t", 1)),
        "cannot be read as STAR counts",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_file_that_cannot_be_used_costs_a_row(make_gdc: Callable[..., Path], fault: str) -> None:
    folder = make_gdc()
    breaks, reason = BROKEN[fault]
    breaks(file_of(folder, "two"))
    table = read_gdc_files(folder, COUNTS)
    assert table.values.index.tolist() == [f"{A}-01A", f"{A}-11A"]
    assert table.values.to_numpy().tolist() == [list(VALUES["one"]), list(VALUES["three"])]
    (failure,) = table.failures
    assert (failure.slide, failure.stage) == (f"two{SUFFIX}", "expression")
    assert re.search(reason, failure.reason), failure.reason
    assert failure.likely_fix


def test_a_truncated_gzip_costs_a_row(make_gdc: Callable[..., Path]) -> None:
    folder = make_gdc()
    path = file_of(folder, "two")
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes())[:-20])
    path.unlink()
    table = read_gdc_files(folder, COUNTS)
    assert len(table.values) == 2
    assert [failure.slide for failure in table.failures] == [path.name]


def test_what_unpacks_to_too_much_costs_a_row(
    make_gdc: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_gdc()
    file_of(folder, "two").write_text(star_counts(VALUES["two"]) + "#" * 4000)
    monkeypatch.setattr("tcgn_mil.preprocessing.bulk.readers.gdc.MAX_FILE_BYTES", 2000)
    assert "unpacks to more than" in read_gdc_files(folder, COUNTS).failures[0].reason


def test_the_genes_of_most_files_are_taken_when_the_first_is_the_odd_one(
    make_gdc: Callable[..., Path],
) -> None:
    folder = make_gdc()
    file_of(folder, "one").write_text(star_counts(VALUES["one"][:3], GENES[:3]))
    table = read_gdc_files(folder, COUNTS)
    assert table.values.index.tolist() == [f"{B}-01A", f"{A}-11A"]
    assert [failure.slide for failure in table.failures] == [f"one{SUFFIX}"]


def test_a_file_that_the_sheet_lacks_is_told_not_read(make_gdc: Callable[..., Path]) -> None:
    table = read_gdc_files(make_gdc(ROWS[:2]), COUNTS)
    assert len(table.values) == 2
    assert [(failure.slide, failure.reason) for failure in table.failures] == [
        (f"three{SUFFIX}", "is not in the sample sheet")
    ]


def test_a_file_given_to_two_patients_is_left_out(make_gdc: Callable[..., Path]) -> None:
    rows = [("one", f"{A}, {B}", f"{A}-01A, {B}-01A", "Primary Tumor"), *ROWS[1:]]
    table = read_gdc_files(make_gdc(rows), COUNTS)
    assert len(table.values) == 2
    assert f"assigns it to {A}, {B}" in table.failures[0].reason


def no_sheet(folder: Path) -> None:
    next(folder.glob("gdc_sample_sheet*")).unlink()


def edit_sheet(old: str, new: str) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        path = next(folder.glob("gdc_sample_sheet*"))
        path.write_text(path.read_text().replace(old, new))

    return edit


def lose_all(folder: Path) -> None:
    for name in VALUES:
        file_of(folder, name).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_sheet, r"gdc: holds 0 sample sheets.*put the one sample sheet of the cart"),
        (
            lambda folder: (folder / "gdc_sample_sheet_2.tsv").write_text("x"),
            "holds 2 sample sheets",
        ),
        (
            edit_sheet("Case ID", "Case"),
            r"sample_sheet.*\.tsv: is not a GDC sample sheet: it has no column Case ID",
        ),
        (edit_sheet(SUFFIX, ".bam"), "names no"),
        (
            edit_sheet("id-two\t", "../two\t"),
            r"column File ID, row 3: '\.\./two' is not a plain file name",
        ),
        (
            edit_sheet("id-two\t", "id-one\t"),
            r"column File ID, row 3: 'id-one' appears more than once",
        ),
        (edit_sheet(f"{B}\t", "\t"), r"column Case ID, row 3: '' is blank"),
        (lose_all, r"none of its 3 files can be used: one.*the file is missing"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(
    make_gdc: Callable[..., Path], spoil: Callable[[Path], object], message: str
) -> None:
    folder = make_gdc()
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        read_gdc_files(folder, COUNTS)
    assert caught.value.fix


def test_units_that_the_files_do_not_hold_are_refused(make_gdc: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=f"hold {', '.join(COLUMNS)}, not log2"):
        read_gdc_files(make_gdc(), ExpressionUnit.parse("log2(tpm+1)"))


def test_the_cohort_has_symbols_summed_and_normal_tissue_dropped(
    make_gdc: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_gdc()
    file_of(folder, "two").unlink()
    slides = [SlideEntry(f"{name}-01Z-00-DX1", name, Path("x")) for name in (A, B, C)]
    summary = write_cohort(
        [folder], slides, tmp_path / "out" / "cohort.h5ad", BulkConfig(unit="counts")
    )
    assert (summary.slides_kept, summary.patients, summary.genes) == (1, 1, 3)
    assert [failure.slide for failure in summary.failures] == [f"two{SUFFIX}"]
    cohort = read_cohort(tmp_path / "out" / "cohort.h5ad")
    assert cohort.var_names.tolist() == ["TSPAN6", "TNMD", "CD99"]
    assert np.asarray(cohort.X).tolist() == [[10, 20, 30]]
    rows = pd.read_csv(tmp_path / "out" / "failures.csv")
    assert rows.columns.tolist() == ["slide", "stage", "reason", "likely_fix"]
    genes = pd.read_csv(tmp_path / "out" / "gene_report.csv").iloc[0]
    assert (genes["ids"], genes["genes"], genes["merged"], genes["merged_by"]) == (4, 3, 1, "sum")
    report = pd.read_csv(tmp_path / "out" / "join_report.csv", keep_default_na=False).set_index(
        "id"
    )["reason"]
    assert report[f"{A}-11A"] == "not a tumour sample"
    assert report[f"{B}-01Z-00-DX1"] == "no expression of this patient"
    # Once the file is there again, its failure is forgotten.
    file_of(folder, "two").write_text(star_counts(VALUES["two"]))
    assert (
        write_cohort(
            [folder], slides, tmp_path / "out" / "cohort.h5ad", BulkConfig(unit="counts")
        ).patients
        == 2
    )
    assert not (tmp_path / "out" / "failures.csv").exists()
    by_id = tmp_path / "ids" / "cohort.h5ad"
    write_cohort([folder], slides, by_id, BulkConfig(unit="tpm", gene_ids="ensembl"))
    assert read_cohort(by_id).var_names.tolist() == [
        "ENSG00000000003",
        "ENSG00000000005",
        "ENSG00000002586",
    ]
