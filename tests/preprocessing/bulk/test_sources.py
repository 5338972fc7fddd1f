"""Expression of several sources: names of genes, AnnData, Xena matrices and checks of units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tcgn_mil.errors import InputError
from tcgn_mil.io.cohort_file import read_cohort
from tcgn_mil.preprocessing.bulk.config import BulkConfig
from tcgn_mil.preprocessing.bulk.gene_map import read_gene_map
from tcgn_mil.preprocessing.bulk.run import write_cohort
from tcgn_mil.preprocessing.bulk.sources import ExpressionOptions, Samples, read_samples
from tcgn_mil.preprocessing.slides.table import SlideEntry
from tcgn_mil.types.units import ExpressionUnit

A, B = "TCGA-AA-0001", "TCGA-BB-0002"
TP53, CD99, CD99_COPY, NOVEL = (
    "ENSG00000141510.17",
    "ENSG00000002586.20",
    "ENSG00000002586.20_PAR_Y",
    "ENSG00000999999.1",
)
XENA = pd.DataFrame(
    {f"{A}-01A": [1.0, 2.0, 3.0, 4.0], f"{B}-01A": [5.0, 6.0, 7.0, 8.0]},
    index=pd.Index([TP53, CD99, CD99_COPY, NOVEL], name="Ensembl_ID"),
)
PROBE_MAP = "#id\tgene\tchrom\nENSG00000141510.17\tTP53\tchr17\nENSG00000002586.20\tCD99\tchrX\n"


def xena(folder: Path, name: str = "TCGA-XX.star_tpm.tsv.gz", table: pd.DataFrame = XENA) -> Path:
    table.to_csv(folder / name, sep="\t")
    return folder / name


def read(path: Path, unit: str = "log2(tpm+0.001)", **options: object) -> Samples:
    return read_samples([path], ExpressionUnit.parse(unit), ExpressionOptions(**options), {A, B})  # type: ignore[arg-type]


class TestGenes:
    def test_a_probe_map_names_ids_and_their_copies_are_summed(self, tmp_path: Path) -> None:
        (tmp_path / "probemap").with_suffix(".tsv").write_text(PROBE_MAP)
        found = read(xena(tmp_path), gene_map=tmp_path / "probemap.tsv")
        assert found.values.columns.tolist() == ["TP53", "CD99", "ENSG00000999999"]
        assert found.values.index.tolist() == [f"{A}-01A", f"{B}-01A"]
        expected = [np.log2(2**low + 2**high - 0.001) for low, high in ((2, 3), (6, 7))]
        assert found.values["CD99"].tolist() == pytest.approx(expected, rel=1e-6)
        assert found.values["TP53"].tolist() == [1, 5]
        row = found.genes[0].as_row()
        assert (row["ids"], row["genes"], row["versions"], row["merged"]) == (4, 3, 4, 1)
        assert (row["named_by_id"], row["merged_by"]) == (1, "sum of logs")
        assert "1 ids merged with another of the same name" in found.notes[0]

    def test_without_a_map_ids_stay_without_their_version(self, tmp_path: Path) -> None:
        found = read(xena(tmp_path), gene_map="none")
        assert found.values.columns.tolist() == [
            "ENSG00000141510",
            "ENSG00000002586",
            "ENSG00000999999",
        ]

    @pytest.mark.parametrize(
        ("unit", "merged"), [("counts", 5.0), ("tpm-subset", 5.0), ("zscore", 2.5)]
    )
    def test_the_unit_says_how_repeated_genes_become_one(
        self, tmp_path: Path, unit: str, merged: float
    ) -> None:
        other = -1 if unit == "zscore" else 1
        (tmp_path / "bulk.csv").write_text(f"id,X,Y,X\n{A},2,{other},3\n{B},2,{other},3\n")
        found = read(tmp_path / "bulk.csv", unit)
        assert found.values.columns.tolist() == ["X", "Y"]
        assert found.values["X"].tolist() == [merged, merged]

    def test_a_copied_row_does_not_double_its_gene(self, tmp_path: Path) -> None:
        rows = [f"{A[:-1]}{at},{at},{at},{at},{2 * at}" for at in range(1, 4)]
        (tmp_path / "bulk.csv").write_text("\n".join(["id,X,X,Y,Y", *rows]) + "\n")
        found = read(tmp_path / "bulk.csv", "fpkm")
        assert found.values["X"].tolist() == [1, 2, 3]
        assert found.values["Y"].tolist() == [3, 6, 9]
        assert "repeats an earlier row of the same values: X" in " ".join(found.notes)

    def test_hla_names_and_lost_names_are_counted(self, tmp_path: Path) -> None:
        (tmp_path / "bulk.csv").write_text(f"id,HLA_A,HLA.DRA,1-Mar\n{A},2,1,3\n")
        found = read(tmp_path / "bulk.csv", "tpm-subset")
        assert found.values.columns.tolist() == ["HLA-A", "HLA-DRA"]
        assert "2 HLA names" in found.notes[0]
        assert "1-Mar (perhaps MARCHF1 or MTARC1)" in found.notes[1]
        assert found.genes[0].as_row()["left_out_names"] == "1-Mar"

    def test_what_a_gene_map_must_be(self, tmp_path: Path) -> None:
        for text, message in (
            (
                "id\tsymbol\nE\tX\n",
                r"map\.tsv: is not a gene map: it has no column gene; its columns are id, symbol",
            ),
            ("id\tgene\n\tX\n", r"map\.tsv: gene map, column id, row 2: '' is blank"),
            (
                "id\tgene\nENSG00000141510.1\tX\nENSG00000141510.2\tY\n",
                "gives 1 ids more than one gene: ENSG00000141510",
            ),
        ):
            (tmp_path / "map.tsv").write_text(text)
            with pytest.raises(InputError, match=message):
                read_gene_map(tmp_path / "map.tsv")
        (tmp_path / "map.tsv").write_text("id\tgene\nprobe1\tX\n")
        with pytest.raises(
            InputError, match=r"names none of its ids: they are ENSG.*the map's probe1"
        ) as caught:
            read(xena(tmp_path), gene_map=tmp_path / "map.tsv")
        assert "--gene-map" in str(caught.value.fix)

    def test_ids_that_a_table_lacks_cannot_be_asked_for(self, tmp_path: Path) -> None:
        (tmp_path / "bulk.csv").write_text(f"id,X\n{A},2\n")
        with pytest.raises(InputError, match=r"bulk\.csv: names no gene by Ensembl id, but X"):
            read(tmp_path / "bulk.csv", "tpm-subset", gene_ids="ensembl")
        with pytest.raises(InputError, match="cannot be named by 'entrez'"):
            read(tmp_path / "bulk.csv", "tpm-subset", gene_ids="entrez")

    def test_ids_and_symbols_have_nothing_in_common_but_the_fix_is_said(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "bulk.csv").write_text(f"id,TP53\n{B}-01A,2\n")
        with pytest.raises(
            InputError, match=r"bulk\.csv: its genes are in no other table"
        ) as caught:
            read_samples(
                [xena(tmp_path), tmp_path / "bulk.csv"],
                ExpressionUnit.parse("log2(tpm+0.001)"),
                ExpressionOptions(gene_map="none"),
                {A, B},
            )
        assert "--gene-map" in str(caught.value.fix)


class TestXena:
    @pytest.mark.parametrize("turned", [False, True])
    def test_genes_lie_down_or_across(self, tmp_path: Path, turned: bool) -> None:
        found = read(xena(tmp_path, table=XENA.T if turned else XENA))
        assert found.values.index.tolist() == [f"{A}-01A", f"{B}-01A"]
        assert found.values.iloc[0, 0] == 1
        assert found.layouts == {
            "TCGA-XX.star_tpm.tsv.gz": "samples-by-genes" if turned else "genes-by-samples"
        }

    @pytest.mark.parametrize(
        "unit", ["log2(tpm+0.001)", "log2(tpm+1)", "log2(fpkm-uq+1)", "log2(counts+1)"]
    )
    def test_the_units_of_its_hubs(self, tmp_path: Path, unit: str) -> None:
        slides = [SlideEntry(f"{A}-01Z-00-DX1", A, Path("x"))]
        summary = write_cohort([xena(tmp_path)], slides, tmp_path / "c.h5ad", BulkConfig(unit=unit))
        assert (summary.unit, summary.patients) == (unit, 1)
        assert read_cohort(tmp_path / "c.h5ad").X[0, 0] == 1

    def test_a_layout_stated_against_the_names_is_refused_with_the_right_one(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(
            InputError, match="is said to be samples-by-genes, but its rows are ENSG"
        ) as told:
            read(xena(tmp_path), layout="samples-by-genes")
        assert "--format genes-by-samples" in str(told.value)

    def test_numbers_of_reads_on_no_gene_are_left_out_and_counted(self, tmp_path: Path) -> None:
        rows = [*XENA.index, "__no_feature", "N_unmapped"]
        found = read(xena(tmp_path, table=XENA.reindex(rows, fill_value=9.0)))
        assert found.values.columns.tolist() == read(xena(tmp_path)).values.columns.tolist()
        assert found.genes[0].as_row()["tallies"] == 2
        assert "2 counts of reads without a gene left out" in found.notes[0]
        with pytest.raises(InputError, match=r"only\.tsv: names no gene"):
            read(
                xena(
                    tmp_path,
                    "only.tsv",
                    XENA.set_axis(["N_unmapped", "N_noFeature", "N_ambiguous", "__ambiguous"]),
                )
            )

    def test_ids_of_a_study_of_ones_own_need_the_slides_or_the_layout(self, tmp_path: Path) -> None:
        own = XENA.set_axis(["case7", "case8"], axis=1)
        slides = [SlideEntry("s1", "case7", Path("x")), SlideEntry("s2", "case8", Path("y"))]
        out = tmp_path / "c.h5ad"
        assert (
            write_cohort(
                [xena(tmp_path, table=own)], slides, out, BulkConfig(unit="log2(tpm+0.001)")
            ).patients
            == 2
        )
        assert read_cohort(out).obs_names.tolist() == ["case7", "case8"]
        other = [SlideEntry("s1", "other", Path("x"))]
        with pytest.raises(
            InputError, match="no patient in common with the slides: it names case7, case8"
        ):
            write_cohort(
                [xena(tmp_path, table=own)], other, out, BulkConfig(unit="log2(tpm+0.001)")
            )
        symbols = own.set_axis(list("ABCD"))
        with pytest.raises(
            InputError, match="do not tell samples from genes: its rows are A, B and 2 more"
        ) as told:
            write_cohort(
                [xena(tmp_path, table=symbols)], other, out, BulkConfig(unit="log2(tpm+0.001)")
            )
        assert "none of them a known patient (the slides are of other)" in str(told.value)
        assert "--format" in str(told.value)


class TestUnits:
    @pytest.mark.parametrize(
        ("unit", "values", "message"),
        [
            ("tpm", [[-1.2, 0.3, 2.0], [0.5, -0.7, 1.0]], "tpm"),
            ("log2(tpm+1)", [[-1.2, 0.3, 2.0], [0.5, -0.7, 1.0]], "log2"),
            ("counts", [[1.5, 2.25, 3.0], [2.5, 1.0, 7.0]], "counts"),
            ("tpm", [[10.0, 20.0, 30.0], [20.0, 10.0, 30.0]], "tpm"),
            ("fpkm", [[-1.2, 0.3, 2.0], [0.5, -0.7, 1.0]], "fpkm"),
        ],
        ids=[
            "z-scores as tpm",
            "z-scores as logs",
            "fractions as counts",
            "few genes as all tpm",
            "z-scores as fpkm",
        ],
    )
    def test_values_that_cannot_be_in_the_declared_unit(
        self, tmp_path: Path, unit: str, values: list[list[float]], message: str
    ) -> None:
        table = pd.DataFrame(values, index=[f"{A}-01A", f"{B}-01A"], columns=["X", "Y", "Z"])
        table.to_csv(tmp_path / "bulk.csv")
        with pytest.raises(InputError, match=message) as caught:
            read(tmp_path / "bulk.csv", unit)
        assert "bulk.csv" in str(caught.value)
        assert caught.value.fix


@pytest.fixture
def make_h5ad(tmp_path: Path) -> Callable[..., Path]:
    def make(*, dense: bool = True, ids: bool = False, **parts: object) -> Path:
        values = np.array([[1, 0, 3], [4, 5, 0]], dtype=np.float32)
        genes = [TP53, CD99, NOVEL] if ids else ["TP53", "CD99", "X"]
        table = anndata.AnnData(
            values if dense else sparse.csr_matrix(values),
            obs=pd.DataFrame(index=[f"{A}-01A", f"{B}-01A"]),
            var=pd.DataFrame({"gene_name": ["TP53", "CD99", ""]} if ids else {}, index=genes),
        )
        table.layers["doubled"] = 2 * table.X
        for name, value in parts.items():
            setattr(table, name, value)
        table.write_h5ad(tmp_path / "bulk.h5ad")
        return tmp_path / "bulk.h5ad"

    return make


class TestAnnData:
    @pytest.mark.parametrize("dense", [True, False])
    def test_x_or_a_layer_dense_or_sparse(
        self, make_h5ad: Callable[..., Path], dense: bool
    ) -> None:
        path = make_h5ad(dense=dense)
        found = read(path, "counts")
        assert found.values.to_numpy().tolist() == [[1, 0, 3], [4, 5, 0]]
        assert found.layouts == {"bulk.h5ad": "h5ad"}
        assert read(path, "counts", layer="doubled").values.to_numpy().tolist() == [
            [2, 0, 6],
            [8, 10, 0],
        ]

    def test_symbols_come_from_a_column_of_var(self, make_h5ad: Callable[..., Path]) -> None:
        path = make_h5ad(ids=True)
        assert read(path, "counts").values.columns.tolist() == ["TP53", "CD99", "ENSG00000999999"]
        assert read(path, "counts", gene_ids="ensembl").values.columns[0] == "ENSG00000141510"

    def test_a_layer_that_is_not_there_is_named_with_those_that_are(
        self, make_h5ad: Callable[..., Path]
    ) -> None:
        with pytest.raises(
            InputError, match=r"bulk\.h5ad: has no layer tpm; its layers are doubled"
        ):
            read(make_h5ad(), "counts", layer="tpm")

    def test_a_layer_of_a_table_of_text_is_a_misunderstanding(self, tmp_path: Path) -> None:
        (tmp_path / "bulk.csv").write_text(f"id,X\n{A},2\n")
        with pytest.raises(InputError, match="has no layers"):
            read(tmp_path / "bulk.csv", "counts", layer="tpm")

    def test_what_is_no_anndata(self, tmp_path: Path, make_h5ad: Callable[..., Path]) -> None:
        whole = make_h5ad().read_bytes()
        for content in (b"", b"text, not HDF5", whole[: len(whole) // 2]):
            (tmp_path / "broken.h5ad").write_bytes(content)
            with pytest.raises(InputError, match=r"broken\.h5ad: cannot be read as (AnnData|HDF5)"):
                read(tmp_path / "broken.h5ad", "counts")
        with pytest.raises(InputError, match="no such file"):
            read(tmp_path / "gone.h5ad", "counts")

    def test_size_is_bounded_before_it_is_read(
        self, make_h5ad: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tcgn_mil.preprocessing.bulk.readers.h5ad.MAX_TABLE_BYTES", 40)
        with pytest.raises(InputError, match="holds 2 x 3 values, too many"):
            read(make_h5ad(), "counts")

    def test_infinite_values_are_refused(self, make_h5ad: Callable[..., Path]) -> None:
        with pytest.raises(InputError, match="infinite"):
            read(make_h5ad(X=np.array([[1, np.inf, 3], [1, 2, 3]], dtype=np.float32)), "counts")


class TestIsbCgc:
    TEXT = (
        "project_short_name,case_barcode,sample_barcode,sample_type_name,CD274,HLA_A\n"
        f"TCGA-XX,{A},{A}-01A,Primary Tumor,1.5,200\n"
        f"TCGA-XX,{A},{A}-11A,Solid Tissue Normal,2,100\n"
    )

    def test_samples_and_genes_are_told_from_the_rest(self, tmp_path: Path) -> None:
        (tmp_path / "tpm.csv").write_text(self.TEXT)
        found = read(tmp_path / "tpm.csv", "tpm-subset")
        assert found.values.index.tolist() == [f"{A}-01A", f"{A}-11A"]
        assert found.values.columns.tolist() == ["CD274", "HLA-A"]
        assert found.layouts == {"tpm.csv": "isb-cgc"}

    @pytest.mark.realdata
    def test_the_expanded_table(self, real_data: Path) -> None:
        found = read(real_data / "tcga_expression" / "tcga_expanded_tpm.csv", "tpm-subset")
        assert found.values.shape == (3920, 21)
        assert {"CD274", "HLA-A", "HLA-B", "HLA-C"} <= set(found.values.columns)


def test_an_unknown_layout_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown layout 'xls'") as caught:
        read(tmp_path / "bulk.csv", layout="xls")
    assert "h5ad, gdc" in str(caught.value.fix)


@pytest.mark.realdata
def test_toil_values_are_in_their_own_unit_alone(real_data: Path) -> None:
    path = real_data / "tcga_expression" / "survpath_xena_coadread_rna_clean.csv"
    assert read(path).values.shape == (320, 1577)
    for wrong in ("tpm-subset", "log2(tpm+1)", "counts"):
        with pytest.raises(InputError, match="survpath_xena_coadread"):
            read(path, wrong)


def test_a_table_without_columns_is_refused(tmp_path: Path) -> None:
    pd.DataFrame().to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(InputError, match=r"empty\.parquet: has no columns"):
        read(tmp_path / "empty.parquet")
