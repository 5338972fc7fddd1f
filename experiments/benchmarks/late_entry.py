"""Measure how long ``tcgn-mil survive`` takes with entry times and without.

    python -m tcgn_mil.experiments.benchmarks.late_entry --out late_entry.json

The cohort is made at random: correlated genes, of which a few raise the hazard, and one covariate.
The two runs differ in the entry times alone. Late entry should take at most three times as long.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.run import run
from tcgn_mil.io.atomic import write_csv, write_json
from tcgn_mil.io.clinical_file import write_survival
from tcgn_mil.types.outcomes import SurvivalTable

MAX_RATIO = 3.0
_FACTORS = 20  # that the genes share, as expression of real tissue does


@dataclass(frozen=True)
class CohortSize:
    """Number of patients and genes, and the seed of the made cohort."""

    patients: int = 345
    genes: int = 1556
    seed: int = 0


def write_cohort(size: CohortSize, folder: Path, *, late: bool) -> SurviveConfig:
    """Write a made cohort, and return the config of a run on it.

    Parameters
    ----------
    size
        Numbers of patients and genes.
    folder
        Folder for the two tables.
    late
        Whether patients come under observation after day 0.
    """
    rng = np.random.default_rng(size.seed)
    names = tuple(f"P{number:04d}" for number in range(size.patients))
    shared = rng.normal(size=(size.patients, _FACTORS)) @ rng.normal(size=(_FACTORS, size.genes))
    values = 0.7 * shared + rng.normal(size=(size.patients, size.genes))
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    hazard = np.exp(0.5 * values[:, 0] - 0.4 * values[:, min(5, size.genes - 1)])
    event_day = rng.exponential(1200 / hazard)
    end = rng.exponential(1500, size.patients) + 30
    time_days = np.maximum(np.minimum(event_day, end).round(), 2)
    entry = np.floor(rng.uniform(0, 0.4, size.patients) * time_days)
    table = SurvivalTable(
        "OS",
        names,
        time_days,
        event_day <= end,
        pd.DataFrame({"age": rng.normal(60, 10, size.patients).round()}, index=list(names)),
        entry if late else None,
    )
    write_survival(folder / "clinical.csv", [table], meta={})
    genes = [f"GENE{number}" for number in range(size.genes)]
    expression = pd.DataFrame(values, index=list(names), columns=genes)
    write_csv(folder / "expression.csv", expression, index=True)
    return SurviveConfig(
        str(folder / "clinical.csv"),
        measured=str(folder / "expression.csv"),
        covariates=("age",),
    )


def measure(size: CohortSize) -> dict[str, Any]:
    """Run both cohorts, and return the seconds, their ratio, and C of each model."""
    seconds: dict[str, float] = {}
    c: dict[str, dict[str, float]] = {}
    for name, late in (("without entry times", False), ("with entry times", True)):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            config = write_cohort(size, folder, late=late)
            begun = time.perf_counter()
            summary = run(config, folder / "run")
            seconds[name] = round(time.perf_counter() - begun, 1)
            c[name] = {row["model"]: round(row["c"], 4) for row in summary["results"]}
    ratio = seconds["with entry times"] / seconds["without entry times"]
    return {
        "patients": size.patients,
        "genes": size.genes,
        "seconds": seconds,
        "ratio": round(ratio, 2),
        "fast_enough": ratio <= MAX_RATIO,
        "c": c,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=CohortSize.patients)
    parser.add_argument("--genes", type=int, default=CohortSize.genes)
    parser.add_argument("--seed", type=int, default=CohortSize.seed)
    parser.add_argument("--out", type=Path, default=Path("late_entry.json"))
    asked = parser.parse_args()
    measured = measure(CohortSize(asked.patients, asked.genes, asked.seed))
    write_json(asked.out, measured)
    sys.stdout.write(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
