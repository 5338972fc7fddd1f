"""Speed and agreement of the cohort analyses on real expression: Cox regression of every gene against lifelines.

    python -m tcgn_mil.experiments.benchmarks.cohort --clinical clinical.csv --measured measured.csv --covariate age

The screen of all genes at once, alone and adjusted for the covariates, against a loop over lifelines' CoxPHFitter. The
loop runs over a few genes spread over the table, and its time for all genes is extrapolated from them: what is written
says so. Coefficients are compared with lifelines at its default precision, where it stops a little short of the
maximum, and at 1e-12. Then the whole of ``tcgn-mil survive``. Cores should be idle.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter
from numpy.typing import NDArray

from tcgn_mil.artefacts import write_json
from tcgn_mil.data.survival_tables import SurvivalTable
from tcgn_mil.data.targets import RankNormaliser
from tcgn_mil.experiments import survival
from tcgn_mil.experiments.survival_cohort import MEASURED, SurviveConfig, load_survival_cohort
from tcgn_mil.survival_screen import cox_screen

LOOP_GENES, REPEATS = 40, 3
EXACT = {"precision": 1e-12}


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """The best of three, and what the last one gave."""
    times, result = [], None
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def loop(
    values: NDArray[np.float64], table: SurvivalTable, design: pd.DataFrame, options: dict[str, float] | None
) -> NDArray[np.float64]:  # fmt: skip
    """Coefficients (G,) of lifelines, one fit a gene."""
    frame = design.assign(t=table.time_days, e=table.event)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for gene in values.T:
            found.append(CoxPHFitter().fit(frame.assign(gene=gene), "t", "e", fit_options=options).params_["gene"])
    return np.array(found)


def compare(values: NDArray[np.float64], table: SurvivalTable, design: pd.DataFrame) -> dict[str, Any]:
    """Seconds of the screen and of the loop, extrapolated, and the largest differences of coefficients."""
    covariates = design.to_numpy(dtype=np.float64) if design.shape[1] else None
    ours_s, ours = seconds(lambda: cox_screen(values, table.time_days, table.event, covariates=covariates))
    estimable = np.flatnonzero(~ours.separates & np.isfinite(ours.coef))
    chosen = estimable[np.linspace(0, len(estimable) - 1, min(LOOP_GENES, len(estimable))).astype(int)]
    loop_s, theirs = seconds(lambda: loop(values[:, chosen], table, design, None))
    exact = loop(values[:, chosen], table, design, EXACT)
    whole = loop_s / len(chosen) * values.shape[1]
    return {
        "genes": values.shape[1], "patients": len(table), "events": int(table.event.sum()),
        "covariates": list(design.columns), "screen_s": round(ours_s, 3),
        "lifelines_s": round(whole, 1), "lifelines_is": f"extrapolated from {len(chosen)} genes in {loop_s:.2f} s",
        "ratio": round(whole / ours_s, 1),
        "largest_difference_default_precision": float(np.abs(ours.coef[chosen] - theirs).max()),
        "largest_difference_precision_1e-12": float(np.abs(ours.coef[chosen] - exact).max()),
        "genes_that_separate_events": int(ours.separates.sum()),
    }  # fmt: skip


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clinical", required=True, help="clinical.csv of tcgn-mil clinical")
    parser.add_argument("--measured", required=True, help="patients x genes")
    parser.add_argument("--covariate", action="append", default=[], help="column of clinical.csv; repeatable")
    parser.add_argument("--skip-survive", action="store_true", help="only the screen")
    parser.add_argument("--out", type=Path, default=Path("cohort.json"))
    asked = parser.parse_args()
    config = SurviveConfig(asked.clinical, measured=asked.measured, covariates=tuple(asked.covariate))
    cohort = load_survival_cohort(config)
    values = cohort.sources[MEASURED].values
    ranked = RankNormaliser(values)(values).astype(np.float64)
    found: dict[str, Any] = {"univariable": compare(ranked, cohort.table, cohort.design.iloc[:, :0])}
    if asked.covariate:
        found["adjusted"] = compare(ranked, cohort.table, cohort.design)
    if not asked.skip_survive:
        with TemporaryDirectory() as folder:
            start = time.perf_counter()
            survival.run(config, Path(folder) / "out")
            found["survive_s"] = round(time.perf_counter() - start, 1)
    write_json(asked.out, found)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
