"""Files with planted relations between immune genes, patients and covariates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted_immunity import GENES, ODD, PATIENTS, TLS

from tcgn_mil.io.expression_file import write_predictions
from tcgn_mil.types.genes import GenePanel


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write immune genes that follow a hidden infiltration, and other genes that are noise."""
    folder, rng = tmp_path_factory.mktemp("associate"), np.random.default_rng(5)
    infiltration, purity = rng.normal(size=90), rng.uniform(0.2, 1, 90)
    immune = np.array([gene in TLS or gene in ODD for gene in GENES])
    measured = rng.normal(size=(90, len(GENES))) + 2 * np.outer(infiltration, immune)
    predicted = 0.4 * rng.normal(size=measured.shape) + 0.5 * np.outer(infiltration, immune)
    folds = np.arange(90) % 3
    obs = pd.DataFrame({"fold": folds}, index=pd.Index(PATIENTS, name="patient_id"))
    panel = GenePanel(GENES)
    var = pd.DataFrame({"predictable": immune}, index=pd.Index(GENES, name="gene"))
    write_predictions(
        folder / "out_of_fold.h5ad",
        predicted + 3 * folds[:, None],
        obs,
        panel,
        unit="log2(TPM + 1)",
        var=var,
        layers={"truth": measured},
    )
    for name, values in (("predicted", predicted), ("measured", measured)):
        pd.DataFrame(values, index=PATIENTS, columns=GENES).to_csv(folder / f"{name}.csv")
    purity[::9] = 0
    pd.DataFrame(
        {
            "patient": PATIENTS,
            "leukocytes": infiltration + 0.3 * rng.normal(size=90),
            "purity": purity,
            "subtype": np.where(infiltration > 0, "hot", "cold"),
            "one": "level",
            "noise": rng.normal(size=90),
        }
    ).to_csv(folder / "covariates.csv", index=False)
    return folder
