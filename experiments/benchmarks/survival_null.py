"""Check that ``tcgn-mil survive`` finds nothing where expression and outcome are unrelated.

    python -m tcgn_mil.experiments.benchmarks.survival_null --clinical clinical.csv \\
        --measured cohort.h5ad
    python -m tcgn_mil.experiments.benchmarks.survival_null --clinical clinical.csv \\
        --predicted out_of_fold.h5ad --endpoint PFI --covariate age

Expression is permuted over patients. Outcome and covariates stay together, so that age keeps what
it says about survival. Folds are made anew for each permutation. The mean C over 50 permutations
should be in 0.5 +- 0.02 (docs/protocol.md, section Calibration).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.survive.cohort import SurvivalCohort, load_survival_cohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.cross_validate import cross_validate
from tcgn_mil.experiments.survive.regression_tables import regression_tables
from tcgn_mil.experiments.survive.run import choose_folds
from tcgn_mil.experiments.survive.sources import MEASURED, PREDICTED
from tcgn_mil.experiments.survive.tables import concordance_table
from tcgn_mil.io.atomic import write_json

PERMUTATIONS = 50
MAX_OFF_CHANCE = 0.02


def permuted(cohort: SurvivalCohort, order: np.ndarray) -> SurvivalCohort:
    """Return the cohort with the expression of each patient taken from row `order`, (M,)."""
    sources = {
        name: dataclasses.replace(source, values=source.values[order])
        for name, source in cohort.sources.items()
    }
    return dataclasses.replace(cohort, sources=sources)


def fit_permutation(config: SurviveConfig, cohort: SurvivalCohort, seed: int) -> dict[str, Any]:
    """Return C of each model under one permutation, and p of what expression adds."""
    shuffled = permuted(cohort, np.random.default_rng(seed).permutation(len(cohort.table)))
    config = dataclasses.replace(config, seeds=(seed,))
    folds, shuffled = choose_folds(config, shuffled)
    repeats = cross_validate(config, shuffled, folds)
    table = concordance_table(config, shuffled.table, repeats).set_index("model")
    tests = regression_tables(shuffled, repeats[0])[1]
    return {
        "seed": seed,
        "c": {name: float(c) for name, c in table["c"].items()},
        "folds_without_a_score": int(
            table.loc[list(cohort.sources), "folds_without_a_score"].max()
        ),
        "p": float(tests["p"].iloc[0]) if len(tests) else None,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and sd of C over permutations, and how often the score adds with p < 0.05."""
    models = runs[0]["c"]
    c = {name: np.array([run["c"][name] for run in runs]) for name in models}
    tested = np.array([1.0 if run["p"] is None else run["p"] for run in runs])
    return {
        "permutations": len(runs),
        "mean_c": {name: round(float(values.mean()), 4) for name, values in c.items()},
        "sd_c": {name: round(float(values.std(ddof=1)), 4) for name, values in c.items()}
        if len(runs) > 1
        else None,
        "p_below_0.05": int((tested < 0.05).sum()),
        "mean_folds_without_a_score": round(
            float(np.mean([run["folds_without_a_score"] for run in runs])), 2
        ),
        "at_chance": all(
            bool(abs(c[name].mean() - 0.5) <= MAX_OFF_CHANCE)
            for name in (PREDICTED, MEASURED)
            if name in c
        ),
    }


def main() -> None:
    """Permute, fit, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clinical", required=True, help="clinical.csv of tcgn-mil clinical")
    parser.add_argument("--measured", help="patients x genes")
    parser.add_argument("--predicted", help="out_of_fold.h5ad, which holds measured values too")
    parser.add_argument("--endpoint", default="OS")
    parser.add_argument(
        "--covariate", action="append", default=[], help="column of clinical.csv; repeatable"
    )
    parser.add_argument("--permutations", type=int, default=PERMUTATIONS)
    parser.add_argument("--out", type=Path, default=Path("survival_null.json"))
    asked = parser.parse_args()
    config = SurviveConfig(
        asked.clinical,
        endpoint=asked.endpoint,
        predicted=asked.predicted,
        measured=asked.measured,
        covariates=tuple(asked.covariate),
        replicates=0,
        screen=False,
    )
    cohort = load_survival_cohort(config)
    runs: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for seed in range(asked.permutations):
        try:
            runs.append(fit_permutation(config, cohort, seed))
        except InputError as error:
            # Folds in which a rare level of a covariate separates the events cannot be fitted. They
            # do not depend on the permuted expression, so that leaving them out is no selection.
            left_out.append({"seed": seed, "reason": error.reason})
            continue
        write_json(
            asked.out, {"summary": summary(runs), "runs": runs, "permutations_left_out": left_out}
        )
    sys.stdout.write(json.dumps(summary(runs), indent=2) + "\n")


if __name__ == "__main__":
    main()
