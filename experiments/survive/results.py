"""Summarise a survival run: its sentence, its labels and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tcgn_mil.experiments.survive.cohort import SurvivalCohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.cross_validate import CvRepeat
from tcgn_mil.experiments.survive.regression_tables import EXPLORATORY
from tcgn_mil.experiments.survive.tables import SCREEN_PREFIX, SIGNATURES_PREFIX
from tcgn_mil.io.atomic import plain_rows
from tcgn_mil.survival.proportional_hazards import PROPORTIONAL_ADVICE

SIGNATURE_COLUMNS = ["signature", "hazard_ratio_per_sd", "low", "high", "p", "q"]
# Ten events for each column of covariates (Peduzzi et al., J. Clin. Epidemiol. 1995).
_EVENTS_PER_COLUMN = 10


@dataclass(frozen=True, eq=False)
class SurvivalResults:
    """Results of a survival run.

    Attributes
    ----------
    config
        Config of the run.
    cohort
        The patients.
    repeats
        Cross-validations, one per seed of the folds.
    tables
        Tables by file name without suffix.
    """

    config: SurviveConfig
    cohort: SurvivalCohort
    repeats: Sequence[CvRepeat]
    tables: Mapping[str, pd.DataFrame]

    def summary(self) -> dict[str, Any]:
        """Return the summary of the run, the sentence first."""
        cohort, tables = self.cohort, self.tables
        return {
            "sentence": self.sentence(),
            "endpoint": cohort.table.endpoint,
            "patients": len(cohort.table),
            "events": int(cohort.table.event.sum()),
            "horizon_days": self.config.horizon_days,
            "covariates": list(cohort.design.columns),
            "genes": {name: len(source.genes) for name, source in cohort.sources.items()},
            "signatures": {name: list(source.set_names) for name, source in cohort.sources.items()},
            "seeds": [repeat.seed for repeat in self.repeats],
            "folds": len(self.repeats[0].folds),
            "labels": self.labels(),
            "results": plain_rows(tables["concordance"]),
            "accuracy": plain_rows(tables["accuracy"]),
            "groups": plain_rows(tables["groups"]),
            "hazard_ratios": plain_rows(tables["hazard_ratios"]),
            "likelihood_ratio": plain_rows(tables["likelihood_ratio"]),
            "proportional_hazards": plain_rows(
                tables["proportional_hazards"].drop(columns="advice", errors="ignore")
            ),
            "signature_outcome": {
                name: plain_rows(table[SIGNATURE_COLUMNS])
                for name, table in self._by_source(SIGNATURES_PREFIX).items()
            },
            "exploratory_screen": {
                name: {
                    "genes": len(table),
                    "q_below_0.05": int((table["q"] < 0.05).sum()),
                    "label": EXPLORATORY,
                }
                for name, table in self._by_source(SCREEN_PREFIX).items()
            },
            "patients_of_other_cohorts": len(cohort.outside),
            "dropped": cohort.dropped["reason"].value_counts().to_dict(),
        }

    def sentence(self) -> str:
        """Return C of each model and what each score adds, in a sentence or two."""
        table = self.cohort.table
        scores = ", ".join(
            f"{row['model']} {row['c']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            for _, row in self.tables["concordance"].iterrows()
        )
        added = "".join(
            f" {row['added'].capitalize()} added to {row['to']}: p {row['p']:.2g}."
            for _, row in self.tables["likelihood_ratio"].iterrows()
        )
        return (
            f"{table.endpoint} of {len(table)} patients, {int(table.event.sum())} events,"
            f" {len(self.repeats[0].folds)} folds: out-of-fold C {scores}.{added}"
        )

    def labels(self) -> list[str]:
        """Return the qualifications that are printed beside every number of the run."""
        table = self.cohort.table
        events, columns = int(table.event.sum()), self.cohort.design.shape[1]
        labels = list(self.cohort.notes)
        if columns and events < _EVENTS_PER_COLUMN * columns:
            labels.append(
                f"{events} events for {columns} columns of covariates: fewer than"
                f" {_EVENTS_PER_COLUMN} for each, so that the fits are unstable"
            )
        if len(self.tables["likelihood_ratio"]):
            labels.append(
                "p-values of out-of-fold scores are approximate: the models of two folds share"
                " training patients"
            )
        rows = self.tables["concordance"]
        for _, row in rows[rows["folds_without_a_score"] > 0].iterrows():
            labels.append(
                f"{row['model']}: no feature was chosen in {row['folds_without_a_score']} of"
                f" {row['folds']} folds; in these folds each pair counts one half"
            )
        assumptions = self.tables["proportional_hazards"]
        if len(assumptions) and (assumptions["p"] < 0.05).any():
            failing = assumptions.loc[assumptions["p"] < 0.05, "covariate"]
            labels.append(
                f"hazards are not proportional (p < 0.05) for {', '.join(dict.fromkeys(failing))}."
                f" {PROPORTIONAL_ADVICE}"
            )
        if table.entry_days is not None:
            labels.append(
                "patients enter late: AUC and Brier score are left out, since they do not allow for"
                " late entry"
            )
        labels.extend(
            f"{name.replace('_', ' ')}: {EXPLORATORY}"
            for name in self.tables
            if name.startswith("exploratory")
        )
        return labels

    def _by_source(self, prefix: str) -> dict[str, pd.DataFrame]:
        """Return the tables whose names begin with a prefix, by source of expression."""
        return {
            name.removeprefix(prefix): table
            for name, table in self.tables.items()
            if name.startswith(prefix)
        }
