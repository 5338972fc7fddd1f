"""Closed-form slide models, scores as targets, and folds by site beside folds by patient."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from slide_cohorts import GENES, PATIENTS, change_cohort, make_cohort, write

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.run import run as predict
from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.slide_level.config import FinetuneConfig, SlideCvConfig
from tcgn_mil.experiments.slide_level.training import regression_fold
from tcgn_mil.settings.slide_model import MilConfig


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> FinetuneConfig:
    made = make_cohort(tmp_path_factory.mktemp("regression"))
    return dataclasses.replace(made, model=MilConfig(kind="kernel"), refits=50)


@pytest.fixture(scope="module")
def study(config: FinetuneConfig) -> tuple[FinetuneConfig, Path, dict]:
    out = Path(config.cohort).parent / "run"
    return config, out, finetuning.run(config, out)


def genes_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "genes.csv").set_index("gene")


def test_genes_that_follow_the_slide_are_predictable_and_others_are_not(study: tuple) -> None:
    _, out, summary = study
    table = genes_of(out)
    seen = table.index.str.startswith("SEEN")
    assert table["r_model"][seen].median() > 0.6
    assert table["q_model"][seen].max() < 0.05
    assert (table["q_model"][~seen] < 0.05).sum() <= 1
    assert summary["model"] == "kernel"
    assert {row["predictor"] for row in summary["headline"]} == {
        "model",
        "training_mean",
        "ridge_mean_features",
        "kernel_mean_features",
    }
    # The null of one small cohort varies; its calibration is measured in experiments/results.
    assert 0.01 < summary["null"]["share_below_0.05"] < 0.1


def test_a_run_that_was_killed_ends_as_one_that_was_not(
    study: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out, _ = study
    calls = 0

    def dies(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return regression_fold.fit_regression(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("tcgn_mil.experiments.slide_level.training.train_fold.fit_regression", dies)
        with pytest.raises(KeyboardInterrupt):
            finetuning.run(config, tmp_path / "run")
    finetuning.run(config, tmp_path / "run")
    for name in ("genes.csv", "headline.csv", "fold2.safetensors"):
        left, right = ((folder / name).read_bytes() for folder in (out, tmp_path / "run"))
        assert left == right, name


def test_new_patients_are_predicted_without_maps(study: tuple, tmp_path: Path) -> None:
    _, out, _ = study
    rng = np.random.default_rng(5)
    features = rng.standard_normal((20, 8)).astype(np.float32)
    coords = np.stack([np.arange(20) * 112, np.zeros(20)], axis=1).astype(np.int64)
    features[:, 0] += 2
    write(tmp_path / "new", "N-1", "N", features, coords)
    _, failures = predict(PredictConfig(str(out), str(tmp_path / "new")), tmp_path / "out")
    assert not failures
    predicted = anndata.read_h5ad(tmp_path / "out" / "predicted.h5ad")
    seen = predicted.var_names.str.startswith("SEEN")
    assert predicted.X[0, seen].mean() > predicted.X[0, ~seen].mean() + 0.5
    assert np.isfinite(predicted.layers["sd"]).all()
    assert not (tmp_path / "out" / "maps").exists()
    for asked in ({"map_genes": ("SEEN0",)}, {"map_signatures": "sets.gmt"}):
        with pytest.raises(InputError, match=r"no scores of tiles.*--kind attention"):
            predict(PredictConfig(str(out), str(tmp_path / "new"), **asked), tmp_path / "refused")


def test_one_vector_per_slide_is_predicted_by_the_kernel_and_tiles_by_the_network(
    tmp_path: Path,
) -> None:
    config = dataclasses.replace(make_cohort(tmp_path), refits=0)
    training = dataclasses.replace(config.training, epochs=1)
    config = dataclasses.replace(config, model=MilConfig(), training=training)
    assert finetuning.run(config, tmp_path / "tiles")["model"] == "attention"
    folder = tmp_path / "vectors"
    level = np.random.default_rng(0).standard_normal(PATIENTS)
    for row, patient in enumerate(f"P{i:02d}" for i in range(PATIENTS)):
        vector = np.full((1, 8), level[row], np.float32)
        write(folder, f"{patient}-1", patient, vector, np.zeros((1, 2), np.int64))
    vectors = dataclasses.replace(config, features=str(folder))
    assert finetuning.run(vectors, tmp_path / "table")["model"] == "kernel"
    network = dataclasses.replace(vectors, model=MilConfig(kind="attention"))
    assert finetuning.run(network, tmp_path / "network")["model"] == "attention"


def test_folds_by_site_are_shown_beside_folds_by_patient(
    config: FinetuneConfig, tmp_path: Path
) -> None:
    both = dataclasses.replace(config, group_by="both", refits=5)
    summary = finetuning.run(both, tmp_path / "both")
    assert summary["folds_by"] == "site"
    splits = pd.read_csv(tmp_path / "both" / "splits.csv")
    assert splits.groupby("folds_by")["predictor"].apply(list).to_dict() == {
        by: [row["predictor"] for row in summary["headline"]] for by in ("patient", "site")
    }
    sites = anndata.read_h5ad(config.cohort).obs["site"]
    folds = pd.read_csv(tmp_path / "both" / "folds.csv")
    test = folds[folds["part"] == "test"].set_index("id")["fold"]
    assert test.groupby(sites, observed=True).nunique().max() == 1
    for by, folder in (("patient", tmp_path / "both" / "by-patient"), ("site", tmp_path / "both")):
        alone = finetuning.run(dataclasses.replace(both, group_by=by), tmp_path / by)
        assert alone["headline"] == json.loads((folder / "summary.json").read_text())["headline"]
    assert (
        summary["by_patient"]["headline"]
        == json.loads((tmp_path / "patient" / "summary.json").read_text())["headline"]
    )
    assert finetuning.run(both, tmp_path / "both") == summary  # finished, so not run again


def test_a_cohort_of_one_site_has_folds_by_patient(tmp_path: Path) -> None:
    config = dataclasses.replace(
        make_cohort(tmp_path), model=MilConfig(kind="ridge"), refits=0, group_by="both"
    )
    change_cohort(config, lambda cohort: cohort.obs.__setitem__("site", "AA"))
    summary = finetuning.run(config, tmp_path / "run")
    assert summary["folds_by"] == "patient"
    assert any("1 tissue source site" in label for label in summary["labels"])
    assert not (tmp_path / "run" / "by-patient").exists()


def scores_of(config: FinetuneConfig) -> pd.DataFrame:
    cohort = anndata.read_h5ad(config.cohort)
    values = np.asarray(cohort.X)
    return pd.DataFrame(
        {
            "good": values[:, :10].mean(axis=1) ** 3,  # any unit: ranks are taken
            "SEEN0": values[:, 0],
            "constant": 1.0,
            "grade": ["high"] * len(values),
        },
        index=pd.Index(cohort.obs_names, name="patient"),
    )


def test_scores_are_predicted_in_place_of_genes(config: FinetuneConfig, tmp_path: Path) -> None:
    scores = scores_of(config)
    scores.iloc[:4] = np.nan  # four patients without a score
    scores["good"] = scores["good"].astype(object)
    scores.iloc[4, 0] = "unclear"
    scores.drop(index="P10").to_csv(tmp_path / "scores.csv")
    wanted = dataclasses.replace(config, targets=str(tmp_path / "scores.csv"), refits=0)
    summary = finetuning.run(wanted, tmp_path / "run")
    table = genes_of(tmp_path / "run")
    # A score that is named like a gene is marked, so that it is not taken for the gene.
    assert list(table.index) == ["good", "SEEN0 (score)"]
    assert table.loc["good", "r_model"] > 0.7
    assert table["n"].to_dict() == {"good": PATIENTS - 6, "SEEN0 (score)": PATIENTS - 5}
    assert summary["patients"] == PATIENTS - 5
    dropped = pd.read_csv(tmp_path / "run" / "dropped.csv").set_index("id")
    assert dropped.loc["constant", "reason"] == "does not vary among the patients of the cohort"
    assert dropped.loc["grade", "reason"] == "holds text, and a score is a number"
    assert dropped.loc["P10", "reason"] == "no score"
    assert dropped.loc["good", "reason"] == "1 cell without a number, taken as missing"


def test_signatures_are_predicted_directly(config: FinetuneConfig, tmp_path: Path) -> None:
    shutil.copy(config.cohort, tmp_path / "cohort.h5ad")
    own = dataclasses.replace(config, cohort=str(tmp_path / "cohort.h5ad"), refits=0)
    names = ["GZMA", "PRF1", "CD8A", *GENES[3:]]

    def rename(cohort: anndata.AnnData) -> None:
        cohort.var_names = names

    change_cohort(own, rename)
    finetuning.run(dataclasses.replace(own, targets="signatures"), tmp_path / "run")
    table = genes_of(tmp_path / "run")
    assert table.loc["CYTOLYTIC_ACTIVITY", "r_model"] > 0.5
    assert "GZMA" not in table.index


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("patient,a\nQ1,1\nQ2,2\n", "has none of the patients of the cohort.*'Q1'"),
        ("patient,a\nP00,x\nP01,y\n", "no score that can be predicted.*holds text"),
        ("patient,a\nP00,1\nP00,2\n", "patient P00 has several rows"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(
    config: FinetuneConfig, tmp_path: Path, table: str, message: str
) -> None:
    (tmp_path / "scores.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        finetuning.run(
            dataclasses.replace(config, targets=str(tmp_path / "scores.csv")), tmp_path / "run"
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": MilConfig(kind="ridge", form="additive")}, "form of the network"),
        ({"targets": "signatures", "encoder": "e.safetensors"}, "an encoder predicts genes"),
        (
            {
                "model": MilConfig(kind="kernel"),
                "encoder_train": "last",
                "encoder": "e",
                "slides": "s",
                "tiles": "t",
            },
            "trains through a network",
        ),
    ],
)
def test_options_that_contradict_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FinetuneConfig(**changes)


def test_targets_that_are_no_file_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    config = FinetuneConfig(cohort="nowhere.h5ad", targets="signature")
    with pytest.raises(InputError, match=r"targets is 'signature', which is no file.*signatures"):
        finetuning.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_slide_cv_keeps_sites_together_unless_told_otherwise() -> None:
    assert SlideCvConfig().group_by == "both"
    assert FinetuneConfig().group_by == "patient"
