"""A run of slide-cv of which only the tables are real, for tests of the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tcgn_mil.experiments.runs.run_folder import begin_run, finish_run
from tcgn_mil.experiments.slide_level.config import SlideCvConfig
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.expression_file import write_predictions
from tcgn_mil.types.genes import GenePanel

ATTACK = "</script><script>document.title='hit'</script>"
GENES = ("CD8A", "TEK", "GOOD", "BAD", ATTACK)


def made_run(out: Path, genes: tuple[str, ...] = GENES, patients: int = 12) -> Path:
    """Write a run in which a gene and a patient have names that would be markup."""
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(patients, len(genes))).astype(np.float32)
    truth[0, 0] = np.nan
    predicted = (truth + generator.normal(size=truth.shape)).astype(np.float32)
    table = pd.DataFrame(
        {
            "gene": genes,
            "r_model": np.linspace(0.1, 0.6, len(genes)),
            "low_model": 0.05,
            "high_model": 0.7,
            "p_model": 0.01,
            "q_model": 0.02,
            "pooled_r_model": 0.4,
            "r_ridge_colour": 0.2,
            "n": patients,
            "predictable": True,
            "interval_half_width": 1.5,
            "interval_coverage": 0.9,
        }
    )
    begin_run(out, "finetune", SlideCvConfig("cohort.h5ad", "features"), verb="slide-cv")
    write_csv(out / "genes.csv", table)
    write_csv(
        out / "dropped.csv",
        pd.DataFrame({"kind": ["slide"], "id": [ATTACK], "reason": [f"is {ATTACK}"]}),
    )
    obs = pd.DataFrame({"fold": 0}, index=[ATTACK, *(f"P{index}" for index in range(1, patients))])
    write_predictions(
        out / "out_of_fold.h5ad",
        predicted,
        obs,
        GenePanel(genes),
        unit="u",
        layers={"truth": truth},
    )
    finish_run(
        out,
        {
            "patients": patients,
            "genes": len(genes),
            "folds": 3,
            "unit": "log2(x & 1)",
            "encoder": "e",
            "dropped": 1,
            "labels": [f"label {ATTACK}"],
            "predictable": len(genes),
            "coverage": {"stated": 0.9, "measured": 0.89},
            "null": {"refits": 50, "share_below_0.05": 0.05, "runs_with_any_q_below_0.05": 0.06},
            "headline": [
                {"predictor": "model", "median_r": 0.4, "low": 0.3, "high": 0.5},
                {
                    "predictor": "ridge_colour",
                    "median_r": 0.2,
                    "low": 0.1,
                    "high": 0.3,
                    "model_above_by": 0.2,
                    "model_above_low": 0.1,
                    "model_above_high": 0.3,
                },
            ],
        },
    )
    return out
