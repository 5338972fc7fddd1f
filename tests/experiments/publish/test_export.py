"""Exported predictions are those of the runs, with every column explained and no path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.run import run as predict
from tcgn_mil.experiments.publish.columns import UNKNOWN
from tcgn_mil.experiments.publish.config import ExportConfig
from tcgn_mil.experiments.publish.export import export_runs
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.io.expression_file import read_expression


@pytest.fixture(scope="module")
def prediction(
    cohort: FinetuneConfig, slide_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("predict") / "predictions"
    predict(PredictConfig(model=str(slide_run), features=cohort.features, maps=False), out)
    return out


@pytest.fixture
def exported(slide_run: Path, kernel_run: Path, prediction: Path, tmp_path: Path) -> Path:
    runs = (str(slide_run), str(kernel_run), str(prediction))
    export_runs(ExportConfig(runs=runs), tmp_path / "exported")
    return tmp_path / "exported"


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, index_col=0)


def test_tables_have_the_predictions_of_the_runs(
    slide_run: Path, prediction: Path, exported: Path
) -> None:
    for run, file, folder in (
        (slide_run, "out_of_fold.h5ad", "slide-model"),
        (prediction, "predicted.h5ad", "predictions"),
    ):
        expected = anndata.read_h5ad(run / file)
        again = anndata.read_h5ad(exported / folder / "predictions.h5ad")
        np.testing.assert_array_equal(again.X, expected.X)
        shown = table(exported / folder / "predictions.csv")
        assert shown.index.tolist() == expected.obs_names.tolist()
        np.testing.assert_allclose(shown[list(expected.var_names)], expected.X, rtol=1e-5)
        for name, layer in (("low", "low"), ("high", "high")):
            values = table(exported / folder / f"{name}.csv")
            np.testing.assert_allclose(values, expected.layers[layer], rtol=1e-5, atol=1e-6)
        assert set(table(exported / folder / "genes.csv")) == set(expected.var)
        assert set(table(exported / folder / "patients.csv")) == set(expected.obs)
    truth = anndata.read_h5ad(slide_run / "out_of_fold.h5ad").layers["truth"]
    measured = table(exported / "slide-model" / "measured.csv")
    np.testing.assert_allclose(measured, truth, rtol=1e-5)
    assert not (exported / "predictions" / "measured.csv").exists()


def test_exported_files_are_read_by_the_other_verbs(exported: Path) -> None:
    file = read_expression(exported / "slide-model" / "predictions.h5ad")
    assert file.unit == "log2(TPM + 1)"
    assert file.folds is not None
    csv = read_expression(exported / "slide-model" / "predictions.csv")
    np.testing.assert_allclose(csv.values, file.values, rtol=1e-5)


def test_every_file_has_its_digest(exported: Path) -> None:
    listed = json.loads((exported / "digests.json").read_text())["files"]
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*.*")}
    assert set(listed) == files - {"digests.json"}
    for name, digest in listed.items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest


def test_no_file_holds_a_path(exported: Path) -> None:
    for path in exported.rglob("*.*"):
        if path.suffix == ".h5ad":
            content = str(anndata.read_h5ad(path).uns)
        else:
            content = path.read_text(encoding="utf-8")
        assert "/tmp" not in content, path
        assert str(Path.home()) not in content, path


def test_the_readme_explains_each_column_and_the_protocol(exported: Path, kernel_run: Path) -> None:
    page = (exported / "README.md").read_text(encoding="utf-8")
    assert UNKNOWN not in page
    for folder in ("slide-model", "kernel", "predictions"):
        part = page.split(f"\n## {folder}\n")[1].split("\n## ")[0]
        for name in ("patients.csv", "genes.csv"):
            frame = pd.read_csv(exported / folder / name)
            for column in frame:
                assert f"| `{column}` |" in part
        assert "in the unit `log2(TPM + 1)`" in part
    assert "each patient stayed in one fold" in page
    assert "patients of a tissue source site stayed in one fold" in page
    coverage = json.loads((kernel_run / "summary.json").read_text())["coverage"]["measured"]
    assert f"they covered {100 * coverage:.1f} %" in page


def test_two_runs_of_one_name_have_two_folders(slide_run: Path, tmp_path: Path) -> None:
    runs = (str(slide_run), str(slide_run))
    lines = export_runs(ExportConfig(runs=runs), tmp_path / "exported")
    assert lines == [
        "slide-model: 24 patients x 30 genes, out of fold",
        "slide-model-2: 24 patients x 30 genes, out of fold",
    ]
    assert (tmp_path / "exported" / "slide-model-2" / "genes.csv").is_file()


def test_a_run_without_patients_is_refused_before_anything_is_written(
    slide_run: Path, encoder_run: Path, call: Callable, tmp_path: Path
) -> None:
    answer = call("export-predictions", slide_run, encoder_run, "--out", tmp_path / "exported")
    assert answer.code == 2
    assert "holds a pretrain run, which has no predictions of patients" in answer.err
    answer = call("export-predictions", tmp_path / "none", "--out", tmp_path / "exported")
    assert "run tcgn-mil finetune, slide-cv or predict first" in answer.err
    assert not (tmp_path / "exported").exists()


def test_an_older_export_is_replaced_and_nothing_else(
    slide_run: Path, encoder_run: Path, prediction: Path, call: Callable, tmp_path: Path
) -> None:
    out = tmp_path / "exported"
    for run in (slide_run, prediction):
        answer = call("export-predictions", run, "--out", out)
        assert answer.code == 0, answer.err
    assert {path.name for path in out.iterdir()} == {"predictions", "README.md", "digests.json"}
    (out / "predictions" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files that no earlier command"):
        export_runs(ExportConfig(runs=(str(slide_run),)), out)
