"""Expression as portals, R and spreadsheets write it, made to the letter and small."""

from __future__ import annotations

import gzip
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.bulk.readers import read_expression_table
from tcgn_mil.types.units import ExpressionUnit

A, B = "TCGA-AA-0001-01A", "TCGA-BB-0002-01A"
COUNTS, TPM = ExpressionUnit("counts"), ExpressionUnit("tpm")


def save(folder: Path, text: str, name: str = "bulk.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(path: Path, **options: object) -> dict[str, list[float]]:
    values = read_expression_table(path, **options).values  # type: ignore[arg-type]
    assert values.index.tolist() == [A, B]
    return {str(gene): values.iloc[:, at].tolist() for at, gene in enumerate(values)}


def test_cbioportal_has_no_sample_entrez_gene_id(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        f"Hugo_Symbol\tEntrez_Gene_Id\t{A}\t{B}\nTP53\t7157\t1\t2\n\t100130426\t3\t4\nX\t\t5\t6\n",
    )
    assert rows(path) == {"TP53|7157": [1, 2], "?|100130426": [3, 4], "X": [5, 6]}
    assert read_expression_table(path).layout == "cbioportal"
    path = save(tmp_path, f"Entrez_Gene_Id\t{A}\t{B}\n7157\t1\t2\n")
    assert rows(path) == {"7157": [1, 2]}


def test_firehose_has_two_header_rows(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        f"Hybridization REF\t{A}\t{B}\ngene_id\tnormalized_count\tnormalized_count\n"
        "?|100130426\t0\t1\nTP53|7157\t1.5\t2\n",
    )
    assert rows(path) == {"?|100130426": [0, 1], "TP53|7157": [1.5, 2]}


def test_firehose_with_three_columns_for_each_sample(tmp_path: Path) -> None:
    kinds = "raw_count\tscaled_estimate\ttranscript_id"
    path = save(
        tmp_path,
        f"Hybridization REF\t{A}\t{A}\t{A}\t{B}\t{B}\t{B}\ngene_id\t{kinds}\t{kinds}\n"
        "TP53|7157\t7\t0.25\tuc1\t8\t0.5\tuc1\n",
    )
    assert rows(path, unit=COUNTS) == {"TP53|7157": [7, 8]}
    assert rows(path, unit=TPM) == {"TP53|7157": [250000, 500000]}
    with pytest.raises(InputError, match="holds raw_count, scaled_estimate, and none"):
        read_expression_table(path, unit=ExpressionUnit("fpkm"))


def test_gct(tmp_path: Path) -> None:
    body = (
        f"Name\tDescription\t{A}\t{B}\nENSG00000141510.17\tTP53\t1\t2\nENSG00000000003.1\tX\t3\t4\n"
    )
    path = save(tmp_path, "#1.2\n2\t2\n" + body, "expr.gct")
    assert rows(path) == {"TP53|ENSG00000141510.17": [1, 2], "X|ENSG00000000003.1": [3, 4]}
    with pytest.raises(
        InputError, match=r"states 3 x 2 values in its second line, but holds 2 x 2"
    ):
        rows(save(tmp_path, "#1.2\n3\t2\n" + body, "cut.gct"))
    text = (
        f"#1.3\n1\t2\t2\t1\nid\tsymbol\tlocus\t{A}\t{B}\nsite\tna\tna\tlung\tskin\n"
        "P1\tTP53\t17p\t1\t2\n"
    )
    assert rows(save(tmp_path, text, "expr3.gct")) == {"TP53": [1, 2]}


SERIES = (
    '!Series_title\t"x"\n!Sample_title\t"tumour one"\t"tumour two"\n'
    '!Sample_geo_accession\t"GSM1"\t"GSM2"\n'
    f'!Sample_characteristics_ch1\t"patient: {A}"\t"patient: {B}"\n'
    "!series_matrix_table_begin\n"
)


def test_geo_series_matrix(tmp_path: Path) -> None:
    text = SERIES + '"ID_REF"\t"GSM1"\t"GSM2"\n"TP53"\t1\t2\n!series_matrix_table_end\n'
    path = tmp_path / "GSE1_series_matrix.txt.gz"
    with gzip.open(path, "wt") as file:
        file.write(text)
    assert rows(path) == {"TP53": [1, 2]}
    read = read_expression_table(path)
    assert "samples are named by Sample_characteristics_ch1" in read.notes[0]
    path = save(tmp_path, text.replace(A, "12").replace(B, "13"))
    assert read_expression_table(path).values.index.tolist() == ["GSM1", "GSM2"]
    assert read_expression_table(path, patients={"12"}).values.index.tolist() == ["12", "13"]
    with pytest.raises(InputError, match="keep them in supplementary files"):
        rows(save(tmp_path, SERIES + '"ID_REF"\t"GSM1"\t"GSM2"\n!series_matrix_table_end\n'))


def test_recount3(tmp_path: Path) -> None:
    text = (
        f"##annotation=G026\n##date.generated=2020\ngene_id\t{A}\t{B}\nENSG00000141510.17\t1\t2\n"
    )
    path = save(tmp_path, text)
    assert rows(path) == {"ENSG00000141510.17": [1, 2]}
    assert "sums of coverage" in read_expression_table(path).notes[0]
    for name in (A, B):
        text = text.replace(name, "0d93b3f2-1111-4c2f-9c2c-aaaaaaaaaaaa")
    with pytest.raises(InputError, match="ids of GDC files"):
        read_expression_table(save(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        f'"{A}" "{B}"\n"TP53" 1.5 2\n',  # write.table of R
        f"gene  {A}   {B}\nTP53  1.5   2\n",
        f"gene;{A};{B}\nTP53;1,5;2\n",
        f"gene\t{A}\t{B}\nTP53\t1,5\t2,0\n",
        f"# made by a tool\n# on a day\ngene\t{A}\t{B}\nTP53\t1.5\t2\n",
        f"#gene\t{A}\t{B}\nTP53\t1.5\t2\n",
        f",gene,{A},{B}\n0,TP53,1.5,2\n",
        f"gene;{A};{B};;\nTP53;1,5;2;;\n",
        f"gene\t{A}\t{B}\n\n  \nTP53\t1.5\t2\n\n",
        f"gene\tgene_type\tlength\t{A}\t{B}\nTP53\tcoding\t900\t1.5\t2\n",
    ],
)
def test_what_surrounds_a_table_is_understood(tmp_path: Path, text: str) -> None:
    assert rows(save(tmp_path, text)) == {"TP53": [1.5, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"gene;{A};{B}\nTP53;1,500;2,250\n", "may mark decimals or thousands"),
        (f"gene;{A};{B}\nTP53;1,5;2.25\n", "may mark decimals or thousands"),
        (f'gene,{A},{B}\nTP53,"1,5",2\n', "write decimals with a point"),
    ],
)
def test_commas_that_can_be_two_things_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_expression_table(save(tmp_path, text))


def test_a_workbook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a workbook") as told:
        read_expression_table(save(tmp_path, "PK", "expr.xlsx"))
    assert "save the sheet as CSV" in str(told.value)


def adata(folder: Path, **uns: object) -> Path:
    path = folder / "t.h5ad"
    data = anndata.AnnData(np.ones((2, 2), np.float32), uns=dict(uns))
    data.obs_names, data.var_names = [A, B], ["TP53", "CD3D"]
    data.write_h5ad(path)
    return path


@pytest.mark.parametrize("noted", [{}, {"base": 10}])
def test_the_logarithm_that_scanpy_noted_must_be_the_declared_one(
    tmp_path: Path, noted: dict[str, object]
) -> None:
    path = adata(tmp_path, log1p=noted)
    log2 = ExpressionUnit.parse("log2(tpm+1)")
    right = "log10" if noted else "ln"
    with pytest.raises(InputError, match=rf"X holds {right}\(x \+ 1\)") as told:
        read_expression_table(path, unit=log2, logarithm="log2")
    assert f"--unit '{right}(tpm+1)'" in str(told.value)
    with pytest.raises(InputError, match="declared unit is fpkm"):
        read_expression_table(path, unit=ExpressionUnit("fpkm"))
    assert read_expression_table(path, unit=log2, logarithm=right).values.shape == (2, 2)


def test_samples_of_an_h5ad_are_named_by_obs_or_lie_in_var(tmp_path: Path) -> None:
    path = tmp_path / "t.h5ad"
    table = pd.DataFrame(np.eye(2, dtype=np.float32), index=["0", "1"], columns=["TP53", "CD3D"])
    obs = pd.DataFrame({"case": [A[:12], B[:12]], "sample": [A, B]}, index=table.index)
    anndata.AnnData(table, obs=obs).write_h5ad(path)
    assert rows(path) == {"TP53": [1, 0], "CD3D": [0, 1]}
    assert "samples are named by obs['sample']" in read_expression_table(path).notes[0]
    var = pd.DataFrame({"gene_name": ["TP53", "CD3D"]}, index=["7157", "915"])
    numbered = table.set_axis([A, B], axis=0).set_axis(var.index, axis=1)
    anndata.AnnData(numbered, var=var).write_h5ad(path)
    assert rows(path) == {"TP53|7157": [1, 0], "CD3D|915": [0, 1]}
    anndata.AnnData(table.set_axis([A, B], axis=0).T).write_h5ad(path)
    assert rows(path) == {"TP53": [1, 0], "CD3D": [0, 1]}
    assert "turned" in read_expression_table(path).notes[0]
