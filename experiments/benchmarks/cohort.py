"""Measure the cohort analyses on real expression: speed, and agreement with lifelines.

    python -m tcgn_mil.experiments.benchmarks.cohort --clinical clinical.csv \\
        --measured cohort.h5ad --covariate age --immune covariates.csv --zero-unknown purity \\
        --adjust-for purity --follow leukocyte_fraction

The Cox regressions of all genes at once, alone and adjusted for the covariates, are compared with a
loop over lifelines' CoxPHFitter. The loop runs over some genes spread over the table (over all with
``--loop-genes 0``); its time for all genes is extrapolated from them, and the output says so.
Coefficients are compared with lifelines at its default precision, where it stops a little before
the maximum, and at 1e-12. Then ``tcgn-mil survive``, ``associate`` and ``report`` run once each.
The cores should be idle.
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

from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.associate.run import run as run_associate
from tcgn_mil.experiments.report.run import write_run_report
from tcgn_mil.experiments.survive.cohort import load_survival_cohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.run import run as run_survive
from tcgn_mil.experiments.survive.sources import MEASURED
from tcgn_mil.io.atomic import write_json
from tcgn_mil.regression.rank_normaliser import RankNormaliser
from tcgn_mil.survival.gene_screen import cox_screen
from tcgn_mil.types.outcomes import SurvivalTable

LOOP_GENES, REPEATS = 40, 3
MIN_RATIO, MAX_DIFFERENCE = 20, 1e-4
MAX_SECONDS = {"survive": 180, "associate": 60, "report": 30}
MAX_MB = 15
EXACT = {"precision": 1e-12}


def seconds(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the shortest time of several calls, and the result of the last."""
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return min(times), result


def loop(
    values: NDArray[np.float64],
    table: SurvivalTable,
    design: pd.DataFrame,
    options: dict[str, float] | None,
) -> NDArray[np.float64]:
    """Return the coefficients (G,) of lifelines, which fits one gene after the other."""
    frame = design.assign(t=table.time_days, e=table.event)
    coefficients = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for gene in values.T:
            coefficients.append(
                CoxPHFitter()
                .fit(frame.assign(gene=gene), "t", "e", fit_options=options)
                .params_["gene"]
            )
    return np.array(coefficients)


def compare(
    values: NDArray[np.float64],
    table: SurvivalTable,
    design: pd.DataFrame,
    loop_genes: int = LOOP_GENES,
) -> dict[str, Any]:
    """Compare the screen of all genes with the loop: seconds, and differences of coefficients."""
    covariates = design.to_numpy(dtype=np.float64) if design.shape[1] else None
    screen_s, screen = seconds(
        lambda: cox_screen(values, table.time_days, table.event, covariates=covariates), REPEATS
    )
    estimable = np.flatnonzero(~screen.separates & np.isfinite(screen.coef))
    count = min(loop_genes or len(estimable), len(estimable))
    chosen = estimable[np.linspace(0, len(estimable) - 1, count).astype(int)]
    loop_s, of_loop = seconds(
        lambda: loop(values[:, chosen], table, design, None), REPEATS if loop_genes else 1
    )
    exact = loop(values[:, chosen], table, design, EXACT)
    whole = loop_s / len(chosen) * values.shape[1]
    return {
        "genes": values.shape[1],
        "patients": len(table),
        "events": int(table.event.sum()),
        "covariates": list(design.columns),
        "screen_s": round(screen_s, 3),
        "lifelines_s": round(whole, 1),
        "lifelines_is": f"extrapolated from {len(chosen)} genes in {loop_s:.2f} s",
        "ratio": round(whole / screen_s, 1),
        "largest_difference_default_precision": float(np.abs(screen.coef[chosen] - of_loop).max()),
        "largest_difference_precision_1e-12": float(np.abs(screen.coef[chosen] - exact).max()),
        "genes_that_separate_events": int(screen.separates.sum()),
    }


def whole_commands(survive: SurviveConfig, associate: AssociationConfig | None) -> dict[str, float]:
    """Return the seconds of each command, and the size of the report in MB."""
    measured = {}
    with TemporaryDirectory() as folder:
        runs = [Path(folder) / "survival"]
        measured["survive_s"], _ = seconds(lambda: run_survive(survive, runs[0]))
        if associate is not None:
            runs.append(Path(folder) / "association")
            measured["associate_s"], _ = seconds(lambda: run_associate(associate, runs[1]))
        page = Path(folder) / "report.html"
        measured["report_s"], _ = seconds(lambda: write_run_report(runs, page, title="Benchmark"))
        measured["report_mb"] = page.stat().st_size / 1e6
    return {name: round(value, 2) for name, value in measured.items()}


def missed(measured: dict[str, Any]) -> list[str]:
    """Return the goals that were not reached, in words."""
    screen = measured["univariable"]
    off = min(
        screen["largest_difference_default_precision"], screen["largest_difference_precision_1e-12"]
    )
    goals = {
        f"ratio {screen['ratio']} to lifelines, at least {MIN_RATIO}": screen["ratio"] >= MIN_RATIO,
        f"coefficients differ by {off:.1e}, at most {MAX_DIFFERENCE}": off <= MAX_DIFFERENCE,
        f"report of {measured.get('report_mb')} MB, under {MAX_MB}": measured.get("report_mb", 0)
        < MAX_MB,
    }
    for name, most in MAX_SECONDS.items():
        taken = measured.get(f"{name}_s")
        goals[f"{name} takes {taken} s, under {most}"] = taken is None or taken < most
    return [goal for goal, reached in goals.items() if not reached]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clinical", required=True, help="clinical.csv of tcgn-mil clinical")
    parser.add_argument("--measured", required=True, help="patients x genes")
    parser.add_argument(
        "--covariate", action="append", default=[], help="column of clinical.csv; repeatable"
    )
    parser.add_argument(
        "--immune", help="table of covariates for associate; without it, associate is not run"
    )
    for name in ("--zero-unknown", "--adjust-for"):
        parser.add_argument(
            name,
            action="append",
            default=[],
            help="column of this table, as for associate; repeatable",
        )
    parser.add_argument("--follow", help="column of this table, as for associate")
    parser.add_argument(
        "--loop-genes",
        type=int,
        default=LOOP_GENES,
        help="number of genes that lifelines fits; 0 for all, once",
    )
    parser.add_argument(
        "--only-screen", action="store_true", help="do not run survive, associate and report"
    )
    parser.add_argument("--out", type=Path, default=Path("cohort.json"))
    return parser.parse_args()


def main() -> None:
    """Measure, print and write."""
    asked = arguments()
    config = SurviveConfig(
        asked.clinical, measured=asked.measured, covariates=tuple(asked.covariate)
    )
    cohort = load_survival_cohort(config)
    values = cohort.sources[MEASURED].values
    ranked = RankNormaliser(values)(values).astype(np.float64)
    alone = cohort.design.iloc[:, :0]
    measured: dict[str, Any] = {
        "univariable": compare(ranked, cohort.table, alone, asked.loop_genes)
    }
    if asked.covariate:
        measured["adjusted"] = compare(ranked, cohort.table, cohort.design, asked.loop_genes)
    if not asked.only_screen:
        associate = (
            None
            if asked.immune is None
            else AssociationConfig(
                predicted=asked.measured,
                covariates=asked.immune,
                zero_unknown=tuple(asked.zero_unknown),
                adjust_for=tuple(asked.adjust_for),
                follow=asked.follow,
            )
        )
        measured |= whole_commands(config, associate)
    measured["missed"] = missed(measured)
    write_json(asked.out, measured)
    sys.stdout.write(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    main()
