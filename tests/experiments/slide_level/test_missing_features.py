"""A table of features with missing values is cross-validated and predicted like any other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.run import run as predict
from tcgn_mil.experiments.slide_level import run as finetuning
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import load_cohort
from tcgn_mil.preprocessing.features.feature_table import import_table
from tcgn_mil.provenance import provenance
from tcgn_mil.settings.slide_model import Kind, MilConfig
from tcgn_mil.settings.training import TrainingConfig

PATIENTS, GENES, D = 45, 6, 5


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> FinetuneConfig:
    """Patients of one slide, but P00 of two, whose genes follow the first feature.

    The first feature is missing for every sixth patient, and the last one for all.
    """
    folder = tmp_path_factory.mktemp("missing")
    rng = np.random.default_rng(0)
    names = [f"P{i:02d}" for i in range(PATIENTS)]
    values = 1000 + 100 * rng.standard_normal((PATIENTS, D))
    expression = 5 + (values[:, :1] - 1000) / 100 + 0.3 * rng.standard_normal((PATIENTS, GENES))
    values[::6, 0] = values[:, -1] = np.nan
    table = pd.DataFrame(values, columns=[f"f{i}" for i in range(D)])
    table.insert(0, "slide", [f"{name}-1" for name in names])
    table.insert(1, "patient_id", names)
    second = table.iloc[[0]].assign(slide="P00-2", f0=1100.0)  # known on one of the two slides
    pd.concat([table, second]).to_csv(folder / "table.csv", index=False)
    import_table(folder / "table.csv", "toy", folder / "features")
    cohort = anndata.AnnData(
        np.maximum(expression, 0).astype(np.float32),
        obs=pd.DataFrame(index=names),
        var=pd.DataFrame(index=[f"G{i}" for i in range(GENES)]),
    )
    cohort.uns["slides"] = pd.read_csv(folder / "features" / "slides.csv")
    cohort.uns["tcgn_mil"] = json.dumps(provenance(kind="cohort", unit="log2(tpm+1)"))
    cohort.write_h5ad(folder / "cohort.h5ad")
    return FinetuneConfig(
        cohort=str(folder / "cohort.h5ad"),
        features=str(folder / "features"),
        n_folds=3,
        refits=0,
        replicates=50,
        model=MilConfig(embedding=8, attention_hidden=4, dropout=0.0),
        training=TrainingConfig(epochs=30, batch_size=8, lr=1e-2, patience=30),
    )


def test_mean_features_of_a_patient_are_those_that_are_known(config: FinetuneConfig) -> None:
    data = load_cohort(config.cohort, config.features)
    assert data.dropped.empty
    mean = data.descriptors["mean_features"]
    assert mean[0, 0] == 1100
    assert np.isnan(mean[6::6, 0]).all()
    assert np.isnan(mean[:, -1]).all()
    assert np.isfinite(mean[:, 1:-1]).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "several_slides"),
    [("kernel", "bag"), ("kernel", "mean"), ("attention", "bag"), ("attention", "mean")],
)
def test_models_learn_from_features_with_missing_values(
    config: FinetuneConfig, kind: Kind, several_slides: str, tmp_path: Path
) -> None:
    model = replace(config.model, kind=kind)
    finetuning.run(replace(config, model=model, several_slides=several_slides), tmp_path / "run")
    genes = pd.read_csv(tmp_path / "run" / "genes.csv")
    assert genes["r_model"].median() > 0.5
    assert genes["r_ridge_mean_features"].median() > 0.5
    options = PredictConfig(model=str(tmp_path / "run"), features=config.features, maps=False)
    predict(options, tmp_path / "predicted")
    predicted = anndata.read_h5ad(tmp_path / "predicted" / "predicted.h5ad")
    assert predicted.n_obs == PATIENTS
    assert np.isfinite(predicted.X).all()
    assert np.isfinite(predicted.obs["ood_score"]).all()
