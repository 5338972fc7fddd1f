"""``tcgn-mil survive``: does predicted expression tell how long patients live, beyond what is known of them?

Everything reported of a risk score is on patients that its model did not see. The univariable screen is not: it is for
exploration, and labelled so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcgn_mil.experiments.runs.run_folder import begin_run, finish_run, finished_summary
from tcgn_mil.experiments.survive import figures as survival_figures
from tcgn_mil.experiments.survive.cohort import (
    SurvivalCohort,
    load_survival_cohort,
    without_patients,
)
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.models import (
    Repeat,
    accuracy_table,
    coefficient_table,
    concordance_table,
    cross_validate,
    group_table,
    regression_tables,
    risk_table,
)
from tcgn_mil.folds import read_folds, write_folds
from tcgn_mil.io.atomic import plain_rows, write_csv
from tcgn_mil.survival.folds import survival_folds
from tcgn_mil.survival.gene_screen import cox_screen
from tcgn_mil.survival.proportional_hazards import PROPORTIONAL_ADVICE
from tcgn_mil.targets.bulk import RankNormaliser
from tcgn_mil.tcga_barcodes import sites_of
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.outcomes import SurvivalTable

KIND = "survive"
EXPLORATORY = "exploratory: genes are judged on the patients they were found on"
SIGNATURES = "each signature by itself, chosen beforehand; q over signatures"
SIGNATURE_COLUMNS = ["signature", "hazard_ratio_per_sd", "low", "high", "p", "q"]
_EVENTS_A_COLUMN = 10  # Peduzzi et al., J. Clin. Epidemiol. 1995


def run(config: SurviveConfig, out_dir: str | Path) -> dict[str, Any]:
    """Cross-validate survival models; returns the summary that is also written.

    Writes ``folds.csv`` (and one a further seed), ``dropped_patients.csv``, ``risk.csv``, ``concordance.csv``,
    ``accuracy.csv``, ``groups.csv``, ``hazard_ratios.csv``, ``likelihood_ratio.csv``, ``proportional_hazards.csv``,
    ``coefficients.csv``, ``signatures_<source>.csv``, ``exploratory_screen_<source>.csv`` and figures. A finished run
    is not run again.

    Raises
    ------
    InputError
        For files that do not fit together, too few events, a fold without one, or a covariate that cannot be estimated.
    """
    out_dir = begin_run(out_dir, KIND, config)
    if (done := finished_summary(out_dir)) is not None:
        return done
    cohort = load_survival_cohort(config)
    folds, cohort = make_folds(config, cohort)
    for seed, parts in folds.items():
        write_folds(
            out_dir / ("folds.csv" if seed == config.seeds[0] else f"folds_seed{seed}.csv"), parts
        )
    write_csv(out_dir / "dropped_patients.csv", cohort.dropped)
    repeats = cross_validate(config, cohort, folds)
    tables = make_tables(config, cohort, repeats)
    for name, table in tables.items():
        write_csv(out_dir / f"{name}.csv", table)
    survival_figures.draw_all(cohort.table, repeats[0], tables, out_dir)
    return finish_run(out_dir, summarise(config, cohort, repeats, tables))


def make_folds(
    config: SurviveConfig, cohort: SurvivalCohort
) -> tuple[dict[int, list[Fold]], SurvivalCohort]:
    """Seed -> folds, and the cohort without patients that no fold of a file tests."""
    table = cohort.table
    if config.folds is None:
        groups = sites_of(table.patient_id) if config.group_by == "site" else None
        return {
            seed: survival_folds(table, n_folds=config.n_folds, seed=seed, groups=groups)
            for seed in config.seeds
        }, cohort
    here = set(table.patient_id)
    named = read_folds(config.folds, ids=[*here, *cohort.dropped["patient_id"]])
    tested = {name for fold in named for name in fold.test}
    if here - tested:
        cohort = without_patients(cohort, here - tested, "in no fold's test part")
        here &= tested
    folds = [
        Fold(
            fold.index,
            *(tuple(name for name in part if name in here) for part in fold.parts().values()),
        )
        for fold in named
    ]
    return {config.seeds[0]: folds}, cohort


def make_tables(
    config: SurviveConfig, cohort: SurvivalCohort, repeats: Sequence[Repeat]
) -> dict[str, pd.DataFrame]:
    """File name without suffix -> table."""
    ratios, tests, assumptions = regression_tables(cohort, repeats[0])
    tables = {
        "risk": risk_table(cohort.table, repeats),
        "concordance": concordance_table(config, cohort.table, repeats),
        "accuracy": accuracy_table(config, cohort.table, repeats[0]),
        "groups": group_table(cohort.table, repeats[0]),
        "hazard_ratios": ratios,
        "likelihood_ratio": tests,
        "proportional_hazards": assumptions,
        "coefficients": coefficient_table(cohort.sources, config.risk.features, repeats),
    }
    if config.screen:
        for name, source in cohort.sources.items():
            values = (
                RankNormaliser(source.values)(source.values)
                if config.risk.transform == "rank"
                else source.values
            )
            tables[f"exploratory_screen_{name}"] = screen_table(
                values, source.genes, cohort.table, cohort.design
            )
            if source.scores is not None:
                scored = screen_table(
                    source.scores.values, source.scores.names, cohort.table, cohort.design
                )
                tables[f"signatures_{name}"] = scored.rename(columns={"gene": "signature"}).assign(
                    label=SIGNATURES
                )
    return tables


def screen_table(
    values: np.ndarray, genes: Sequence[str], table: SurvivalTable, design: pd.DataFrame
) -> pd.DataFrame:
    """One row a gene, the most certain first: univariable Cox regression, and adjusted for the covariates if any."""
    outcome = (table.time_days, table.event)
    parts = {"": cox_screen(values, *outcome, entry=table.entry_days)}
    if design.shape[1]:
        parts["adjusted_"] = cox_screen(
            values, *outcome, entry=table.entry_days, covariates=design.to_numpy()
        )
    columns: dict[str, Any] = {"gene": list(genes)}
    for prefix, found in parts.items():
        columns |= {
            f"{prefix}hazard_ratio_per_sd": found.hazard_ratio,
            f"{prefix}low": found.low,
            f"{prefix}high": found.high,
            f"{prefix}coef": found.coef,
            f"{prefix}se": found.se,
            f"{prefix}z": found.z,
            f"{prefix}p": found.p,
            f"{prefix}q": found.q,
        }
    frame = pd.DataFrame(columns).assign(label=EXPLORATORY)
    return frame.sort_values(["p", "gene"], kind="stable").reset_index(drop=True)


def summarise(
    config: SurviveConfig,
    cohort: SurvivalCohort,
    repeats: Sequence[Repeat],
    tables: dict[str, pd.DataFrame],
) -> dict[str, Any]:
    """The headline first, then what the reader must know of how it came about."""
    screens = {
        name.removeprefix("exploratory_screen_"): {
            "genes": len(table),
            "q_below_0.05": int((table["q"] < 0.05).sum()),
            "label": EXPLORATORY,
        }
        for name, table in tables.items()
        if name.startswith("exploratory_screen_")
    }
    return {
        "sentence": headline_sentence(cohort, tables, repeats),
        "endpoint": cohort.table.endpoint,
        "patients": len(cohort.table),
        "events": int(cohort.table.event.sum()),
        "horizon_days": config.horizon_days,
        "covariates": list(cohort.design.columns),
        "genes": {name: len(source.genes) for name, source in cohort.sources.items()},
        "signatures": {name: list(source.set_names) for name, source in cohort.sources.items()},
        "seeds": [repeat.seed for repeat in repeats],
        "folds": len(repeats[0].folds),
        "labels": labels_of(cohort, tables),
        "results": plain_rows(tables["concordance"]),
        "accuracy": plain_rows(tables["accuracy"]),
        "groups": plain_rows(tables["groups"]),
        "hazard_ratios": plain_rows(tables["hazard_ratios"]),
        "likelihood_ratio": plain_rows(tables["likelihood_ratio"]),
        "proportional_hazards": plain_rows(
            tables["proportional_hazards"].drop(columns="advice", errors="ignore")
        ),
        "signature_outcome": {
            name.removeprefix("signatures_"): plain_rows(table[SIGNATURE_COLUMNS])
            for name, table in tables.items()
            if name.startswith("signatures_")
        },
        "exploratory_screen": screens,
        "dropped": cohort.dropped["reason"].value_counts().to_dict(),
    }


def headline_sentence(
    cohort: SurvivalCohort, tables: dict[str, pd.DataFrame], repeats: Sequence[Repeat]
) -> str:
    """What a reader must not miss, in a sentence or two."""
    table = cohort.table
    scores = ", ".join(
        f"{row['model']} {row['c']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        for _, row in tables["concordance"].iterrows()
    )
    added = "".join(
        f" {row['added'].capitalize()} added to {row['to']}: p {row['p']:.2g}."
        for _, row in tables["likelihood_ratio"].iterrows()
    )
    return (
        f"{table.endpoint} of {len(table)} patients, {int(table.event.sum())} events, {len(repeats[0].folds)} folds:"
        f" out-of-fold C {scores}.{added}"
    )


def labels_of(cohort: SurvivalCohort, tables: dict[str, pd.DataFrame]) -> list[str]:
    """What qualifies the result, in words that go beside every number of it."""
    events, columns = int(cohort.table.event.sum()), cohort.design.shape[1]
    labels = list(cohort.notes)
    if columns and events < _EVENTS_A_COLUMN * columns:
        labels.append(
            f"{events} events for {columns} columns of covariates: fewer than 10 each, so fits are unstable"
        )
    if len(tables["likelihood_ratio"]):
        labels.append("p-values of out-of-fold scores are approximate: folds inform one another")
    rows = tables["concordance"]
    for _, row in rows[rows["folds_without_a_score"] > 0].iterrows():
        labels.append(
            f"{row['model']}: nothing was chosen in {row['folds_without_a_score']} of {row['folds']} folds, whose pairs"
            " count half"
        )
    failing = tables["proportional_hazards"]
    if len(failing) and (failing["p"] < 0.05).any():
        names = ", ".join(dict.fromkeys(failing.loc[failing["p"] < 0.05, "covariate"]))
        labels.append(f"hazards are not proportional (p < 0.05) for {names}. {PROPORTIONAL_ADVICE}")
    if cohort.table.entry_days is not None:
        labels.append("patients enter late: no AUC and no Brier score, which know no late entry")
    labels.extend(
        f"{name.replace('_', ' ')}: {EXPLORATORY}"
        for name in tables
        if name.startswith("exploratory")
    )
    return labels
