"""Make the tables of ``tcgn-mil survive`` from out-of-fold risk scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.experiments.survive.cohort import SurvivalCohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.cross_validate import CvRepeat
from tcgn_mil.experiments.survive.regression_tables import (
    group_table,
    regression_tables,
    screen_table,
)
from tcgn_mil.experiments.survive.sources import CLINICAL, ExpressionSource
from tcgn_mil.regression.rank_normaliser import RankNormaliser
from tcgn_mil.survival.accuracy import (
    INTERVAL,
    Accuracy,
    Concordance,
    concordance,
    fold_accuracy,
    mean_over_folds,
)
from tcgn_mil.types.outcomes import SurvivalTable

SIGNATURES = "each signature by itself, chosen beforehand; q over signatures"
# First parts of the names of tables that each source of expression has.
SCREEN_PREFIX, SIGNATURES_PREFIX = "exploratory_screen_", "signatures_"


def make_tables(
    config: SurviveConfig, cohort: SurvivalCohort, repeats: Sequence[CvRepeat]
) -> dict[str, pd.DataFrame]:
    """Make all tables of a run, by their file names without suffix."""
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
            values: NDArray[np.floating] = source.values
            if config.risk.transform == "rank":
                values = RankNormaliser(values)(values)
            tables[f"{SCREEN_PREFIX}{name}"] = screen_table(
                values, source.genes, cohort.table, cohort.design
            )
            if source.scores is not None:
                scored = screen_table(
                    source.scores.values, source.scores.names, cohort.table, cohort.design
                )
                scored = scored.rename(columns={"gene": "signature"}).assign(label=SIGNATURES)
                tables[f"{SIGNATURES_PREFIX}{name}"] = scored
    return tables


def concordance_table(
    config: SurviveConfig, table: SurvivalTable, repeats: Sequence[CvRepeat]
) -> pd.DataFrame:
    """Return Harrell's C of each model with its interval, one row per model.

    Pairs of patients are counted within folds only, because the scores of models of different folds
    are not on one scale. The row also has the difference to the clinical model, and the number of
    folds in which the model chose no feature.
    """
    # (models, seeds, patients) scores and (seeds, patients) folds: C is taken over all seeds at
    # once, and its interval over resamples of patients that are the same for all models.
    names = list(repeats[0].risk)
    risks = np.stack([[repeat.risk[name] for repeat in repeats] for name in names])
    groups = np.stack([repeat.fold for repeat in repeats])
    measured = concordance(
        table.time_days,
        table.event,
        risks,
        groups,
        entry=table.entry_days,
        replicates=config.replicates,
    )
    rows = []
    for index, name in enumerate(names):
        parts = [part for repeat in repeats for part in repeat.models[name]]
        row = {
            "model": name,
            "c": measured.c[index],
            "low": measured.low[index],
            "high": measured.high[index],
            "pairs": int(measured.pairs / len(repeats)),
            "folds": len(parts),
            "folds_without_a_score": sum(not np.ptp(part.train) > 0 for part in parts),
        }
        rows.append(row | _difference_to_clinical(measured, names, index))
    return pd.DataFrame(rows)


def _difference_to_clinical(
    measured: Concordance, names: Sequence[str], index: int
) -> dict[str, float]:
    """Return C minus that of the clinical model, with an interval over the same resamples."""
    if CLINICAL not in names or names[index] == CLINICAL:
        return {}
    base = names.index(CLINICAL)
    low, high = (float("nan"),) * 2
    if measured.replicates.shape[1]:
        low, high = np.nanpercentile(
            measured.replicates[index] - measured.replicates[base], INTERVAL
        )
    return {
        "above_clinical": measured.c[index] - measured.c[base],
        "above_low": low,
        "above_high": high,
    }


def accuracy_table(config: SurviveConfig, table: SurvivalTable, repeat: CvRepeat) -> pd.DataFrame:
    """Return time-dependent AUC and Brier score, one row per model and time.

    ``brier_null`` is the Brier score of the Kaplan-Meier curve of all training patients. The table
    is empty if patients enter late, since these measures do not allow for late entry.
    """
    times = np.sort(np.array(config.times_days, dtype=np.float64))
    if table.entry_days is not None or not len(times):
        return pd.DataFrame(columns=["model", "days", "cases", *Accuracy._fields[:3]])
    rows = []
    for name, models in repeat.models.items():
        accuracy = mean_over_folds(
            [
                fold_accuracy(
                    table.take(fold.train),
                    table.take(fold.test),
                    model.calibrating,
                    model.test,
                    times,
                )
                for fold, model in zip(repeat.folds, models, strict=True)
            ]
        )
        rows += [
            {
                "model": name,
                "days": time,
                "cases": accuracy.cases[index],
                "auc": accuracy.auc[index],
                "brier": accuracy.brier[index],
                "brier_null": accuracy.brier_null[index],
            }
            for index, time in enumerate(times)
        ]
    return pd.DataFrame(rows)


def risk_table(table: SurvivalTable, repeats: Sequence[CvRepeat]) -> pd.DataFrame:
    """Return fold, outcome and the out-of-fold scores, one row per patient and seed."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "patient_id": table.patient_id,
                    "seed": repeat.seed,
                    "fold": repeat.fold,
                    "time_days": table.time_days,
                    "event": table.event.astype(int),
                    **repeat.risk,
                }
            )
            for repeat in repeats
        ],
        ignore_index=True,
    )


def coefficient_table(
    sources: Mapping[str, ExpressionSource], features: str, repeats: Sequence[CvRepeat]
) -> pd.DataFrame:
    """Return the features that each gene model chose, one row per model, seed, fold and feature.

    Parameters
    ----------
    sources
        Expression by the name of its model.
    features
        ``genes``, ``signatures`` or ``both``: what the models may choose from.
    repeats
        Cross-validations.

    Returns
    -------
    Coefficients per standard deviation of the training patients, with the chosen penalty.
    """
    rows = []
    for name, source in sources.items():
        names = (source.genes if features != "signatures" else ()) + source.set_names
        for repeat in repeats:
            for fold, model in zip(repeat.folds, repeat.models[name], strict=True):
                rows += [
                    {
                        "model": name,
                        "seed": repeat.seed,
                        "fold": fold.index,
                        "feature": names[index],
                        "coef": model.coefficients[index],
                        "penalty": model.penalty,
                        "l1_ratio": model.l1_ratio,
                    }
                    for index in np.flatnonzero(model.coefficients)
                ]
    return pd.DataFrame(
        rows, columns=["model", "seed", "fold", "feature", "coef", "penalty", "l1_ratio"]
    )
