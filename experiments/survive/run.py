"""Test whether expression predicts survival, alone and beside clinical covariates.

Risk scores are reported only for patients that their model did not see (docs/protocol.md, section
Survival). The regression of every gene by itself is the exception: it is for exploration, and its
tables and figures say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tcgn_mil.experiments.runs.inputs import record_inputs
from tcgn_mil.experiments.runs.run_folder import begin_run, finish_run, finished_summary
from tcgn_mil.experiments.survive.cohort import (
    SurvivalCohort,
    load_survival_cohort,
    without_patients,
)
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.cross_validate import cross_validate
from tcgn_mil.experiments.survive.figures import draw_all
from tcgn_mil.experiments.survive.results import SurvivalResults
from tcgn_mil.experiments.survive.tables import make_tables
from tcgn_mil.folds import read_folds, write_folds
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.survival.folds import survival_folds
from tcgn_mil.tcga_barcodes import sites_of
from tcgn_mil.types.folds import Fold

KIND = "survive"
_FILES = ("clinical", "predicted", "measured", "signatures", "folds")  # keys of the config


def run(config: SurviveConfig, out_dir: str | Path) -> dict[str, Any]:
    """Cross-validate survival models, and write tables and figures.

    The folder gets ``folds.csv`` (and one file for each further seed), ``dropped_patients.csv``,
    ``risk.csv``, ``concordance.csv``, ``accuracy.csv``, ``groups.csv``, ``hazard_ratios.csv``,
    ``likelihood_ratio.csv``, ``proportional_hazards.csv``, ``coefficients.csv``,
    ``signatures_<source>.csv``, ``exploratory_screen_<source>.csv`` and figures. A finished run is
    returned as it is.

    Parameters
    ----------
    config
        Config of ``tcgn-mil survive``.
    out_dir
        Folder to write.

    Returns
    -------
    The summary that is also written to ``summary.json``.

    Raises
    ------
    InputError
        If the files do not fit together, if there are too few events, if a fold has none, if a
        covariate cannot be estimated, or if the folder holds another run.
    """
    out_dir = begin_run(out_dir, KIND, config)
    done = finished_summary(out_dir)
    inputs = {name: getattr(config, name) for name in _FILES}
    record_inputs(out_dir, inputs, finished=done is not None)
    if done is not None:
        return done
    cohort = load_survival_cohort(config)
    folds, cohort = choose_folds(config, cohort)
    for seed, parts in folds.items():
        name = "folds.csv" if seed == config.seeds[0] else f"folds_seed{seed}.csv"
        write_folds(out_dir / name, parts)
    write_csv(out_dir / "dropped_patients.csv", cohort.dropped)
    repeats = cross_validate(config, cohort, folds)
    tables = make_tables(config, cohort, repeats)
    for name, table in tables.items():
        write_csv(out_dir / f"{name}.csv", table)
    draw_all(cohort.table, repeats[0], tables, out_dir)
    return finish_run(out_dir, SurvivalResults(config, cohort, repeats, tables).summary())


def choose_folds(
    config: SurviveConfig, cohort: SurvivalCohort
) -> tuple[dict[int, list[Fold]], SurvivalCohort]:
    """Make the folds of every seed, or read them from the file that the config names.

    Returns
    -------
    Folds by seed; and the cohort, without the patients that no fold of a file tests.
    """
    table = cohort.table
    if config.folds is None:
        groups = sites_of(table.patient_id) if config.group_by == "site" else None
        return {
            seed: survival_folds(table, n_folds=config.n_folds, seed=seed, groups=groups)
            for seed in config.seeds
        }, cohort
    present = set(table.patient_id)
    # The file may name patients that were dropped, for example because an outcome is missing.
    others = [*cohort.dropped["patient_id"], *cohort.outside]
    from_file = read_folds(config.folds, ids=[*present, *others], needs_val=False)
    tested = {name for fold in from_file for name in fold.test}
    if present - tested:
        cohort = without_patients(cohort, present - tested, "in no fold's test part")
        present &= tested
    folds = [
        Fold(
            fold.index,
            *(tuple(name for name in part if name in present) for part in fold.parts().values()),
            needs_val=False,
        )
        for fold in from_file
    ]
    return {config.seeds[0]: folds}, cohort
