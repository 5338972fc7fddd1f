"""A made cohort of 160 patients with survival and expression, and a quick config."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.config import resolve_config
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.io.clinical_file import write_survival
from tcgn_mil.types.outcomes import SurvivalTable

SCRIPT = "<script>alert('$x_1$')</script>"
PATIENTS = tuple(f"TCGA-{row % 9:02d}-{row:04d}" for row in range(160))
QUICK = (
    "risk.l1_ratios=[0.5]",
    "risk.n_penalties=6",
    "risk.inner_folds=3",
    "replicates=50",
    "n_folds=4",
)


def cohort_files(folder: Path, *, late: bool = False) -> dict[str, Path]:
    """Write the clinical table of 160 patients, and expression that is related to survival.

    The patients have another order in the tables of expression.
    """
    rng = np.random.default_rng(0)
    signal, age = rng.normal(size=160), rng.normal(60, 10, 160)
    death = rng.exponential(1500 * np.exp(-0.9 * signal - 0.04 * (age - 60))) + 5
    end = rng.exponential(2500, 160) + 5
    days, event = np.minimum(death, end), death <= end
    entry = 0.3 * days * rng.random(160) if late else None
    stage = np.array(["I", "II", "III"])[rng.integers(0, 3, 160)]
    covariates = pd.DataFrame(
        {"age": age, "stage": stage, "one": "x"}, index=pd.Index(PATIENTS, name="patient_id")
    )
    write_survival(
        folder / "clinical.csv",
        [SurvivalTable("OS", PATIENTS, days, event, covariates, entry)],
        meta={},
    )
    genes = [SCRIPT, "CD8A", *(f"G{number}" for number in range(10))]
    noise = {"predicted": 0.6, "measured": 0.2}
    files = {"clinical": folder / "clinical.csv"}
    for kind, sd in noise.items():
        values = rng.normal(size=(160, 12))
        values[:, 0] = signal + sd * rng.normal(size=160)
        table = pd.DataFrame(values, index=pd.Index(PATIENTS, name="patient"), columns=genes)
        files[kind] = folder / f"{kind}.csv"
        table.sample(frac=1, random_state=1).to_csv(files[kind])
    return files


def configured(files: dict[str, Path], *overrides: str) -> SurviveConfig:
    given = [f"{name}={path}" for name, path in files.items()]
    return resolve_config(SurviveConfig, overrides=[*given, *QUICK, *overrides])
