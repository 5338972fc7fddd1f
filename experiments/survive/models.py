"""Out-of-fold risk scores of each model of ``tcgn-mil survive``, and the tables about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from tcgn_mil.experiments.survive.cohort import CLINICAL, Source, SurvivalCohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.survival.accuracy import (
    INTERVAL,
    Accuracy,
    Concordance,
    concordance,
    fold_accuracy,
    mean_over_folds,
)
from tcgn_mil.survival.cox import (
    fit_cox,
    hazard_ratios,
    likelihood_ratio,
)
from tcgn_mil.survival.folds import SurvivalFold, fold_rows
from tcgn_mil.survival.log_rank import log_rank
from tcgn_mil.survival.proportional_hazards import proportional_hazards
from tcgn_mil.survival.risk_score import FoldRisk, combined_risk, covariate_risk, gene_risk
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.outcomes import SurvivalTable

SCORE = "risk score"


@dataclass(frozen=True, eq=False)
class Repeat:
    """One way to cut the cohort into folds, with every model's scores.

    Attributes
    ----------
    seed
        Of the folds, or 0 where they came from a file.
    fold
        (M,) fold that tests each patient.
    folds
        Rows of each.
    models
        Model -> one :class:`FoldRisk` a fold.
    risk
        Model -> (M,) out-of-fold score, 0 at the training median, in training sd.
    """

    seed: int
    fold: NDArray[np.int64]
    folds: tuple[SurvivalFold, ...]
    models: dict[str, tuple[FoldRisk, ...]]
    risk: dict[str, NDArray[np.float64]]


def with_clinical(source: str) -> str:
    """Name of the model on covariates and a gene score."""
    return f"{CLINICAL} + {source}"


def cross_validate(
    config: SurviveConfig, cohort: SurvivalCohort, folds: Mapping[int, Sequence[Fold]]
) -> list[Repeat]:
    """Fit every model in every fold of every seed, and score the patients it did not see."""
    rows = {
        seed: fold_rows(parts, cohort.table) for seed, parts in folds.items()
    }  # all checked before one is fitted
    repeats = []
    with tqdm(total=sum(map(len, rows.values())), desc="folds", unit="fold", leave=False) as bar:
        for seed, parts in rows.items():
            found = []
            for part in parts:
                found.append(_fit_fold(config, cohort, part, seed))
                bar.update()
            repeats.append(_repeat(seed, parts, found, len(cohort.table)))
    return repeats


def _fit_fold(
    config: SurviveConfig, cohort: SurvivalCohort, fold: SurvivalFold, seed: int
) -> dict[str, FoldRisk]:
    train, where = cohort.table.take(fold.train), f" in the training part of fold {fold.index}"
    inside, held_out = cohort.design.iloc[fold.train], cohort.design.iloc[fold.test]
    found = {}
    if cohort.design.shape[1]:
        found[CLINICAL] = covariate_risk(train, inside, held_out, where=where)
    for name, source in cohort.sources.items():
        values = source.values
        found[name] = gene_risk(
            train, values[fold.train], values[fold.test], config.risk, seed=seed, sets=source.sets
        )
        if cohort.design.shape[1]:
            found[with_clinical(name)] = combined_risk(
                train, inside, held_out, found[name], where=where
            )
    return found


def _repeat(
    seed: int, folds: Sequence[SurvivalFold], found: Sequence[dict[str, FoldRisk]], patients: int
) -> Repeat:
    number = np.full(patients, -1, dtype=np.int64)
    risk = {name: np.zeros(patients) for name in found[0]}
    for fold, models in zip(folds, found, strict=True):
        number[fold.test] = fold.index
        for name, scores in models.items():
            risk[name][fold.test] = scores.test
    models = {name: tuple(one[name] for one in found) for name in found[0]}
    return Repeat(seed, number, tuple(folds), models, risk)


def concordance_table(
    config: SurviveConfig, table: SurvivalTable, repeats: Sequence[Repeat]
) -> pd.DataFrame:
    """One row a model: C with interval, its difference to the clinical model, folds in which genes were chosen."""
    names = list(repeats[0].risk)
    risks = np.stack([[repeat.risk[name] for repeat in repeats] for name in names])
    groups = np.stack([repeat.fold for repeat in repeats])
    found = concordance(
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
            "c": found.c[index],
            "low": found.low[index],
            "high": found.high[index],
            "pairs": int(found.pairs / len(repeats)),
            "folds": len(parts),
            "folds_without_a_score": sum(not np.ptp(part.train) > 0 for part in parts),
        }
        rows.append(row | _difference(found, names, index))
    return pd.DataFrame(rows)


def _difference(found: Concordance, names: Sequence[str], index: int) -> dict[str, float]:
    if CLINICAL not in names or names[index] == CLINICAL:
        return {}
    base = names.index(CLINICAL)
    low, high = (float("nan"),) * 2
    if found.replicates.shape[1]:
        low, high = np.nanpercentile(found.replicates[index] - found.replicates[base], INTERVAL)
    return {"above_clinical": found.c[index] - found.c[base], "above_low": low, "above_high": high}


def accuracy_table(config: SurviveConfig, table: SurvivalTable, repeat: Repeat) -> pd.DataFrame:
    """One row a model and time: AUC, Brier score and that of the Kaplan-Meier curve; none where patients enter late."""
    times = np.sort(np.array(config.times_days, dtype=np.float64))
    if table.entry_days is not None or not len(times):
        return pd.DataFrame(columns=["model", "days", "cases", *Accuracy._fields[:3]])
    rows = []
    for name, models in repeat.models.items():
        found = mean_over_folds(
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
                "cases": found.cases[index],
                "auc": found.auc[index],
                "brier": found.brier[index],
                "brier_null": found.brier_null[index],
            }
            for index, time in enumerate(times)
        ]
    return pd.DataFrame(rows)


def risk_table(table: SurvivalTable, repeats: Sequence[Repeat]) -> pd.DataFrame:
    """One row a patient and seed: fold, outcome, out-of-fold score of each model (0: the training median)."""
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
    sources: Mapping[str, Source], features: str, repeats: Sequence[Repeat]
) -> pd.DataFrame:
    """One row a model, seed, fold and chosen feature: its coefficient per training sd, and the penalty."""
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


def group_table(table: SurvivalTable, repeat: Repeat) -> pd.DataFrame:
    """One row a model: patients and events above and below the training median, log-rank, hazard ratio of above."""
    rows = []
    for name, risk in repeat.risk.items():
        high = risk > 0
        statistic, p = log_rank(table, high)
        row = {
            "model": name,
            "high": int(high.sum()),
            "high_events": int(table.event[high].sum()),
            "low": int((~high).sum()),
            "low_events": int(table.event[~high].sum()),
            "log_rank": statistic,
            "p": p,
        }
        if row["high_events"] and row["low_events"]:
            fitted = fit_cox(
                table, pd.DataFrame({"high": high.astype(float)}, index=list(table.patient_id))
            )
            ratio = hazard_ratios(fitted).iloc[0]
            row |= {
                "hazard_ratio": ratio["hazard_ratio"],
                "hr_low": ratio["low"],
                "hr_high": ratio["high"],
            }
        rows.append(row)
    return pd.DataFrame(rows)


def regression_tables(
    cohort: SurvivalCohort, repeat: Repeat
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Hazard ratios, likelihood-ratio tests and proportional-hazards tests of covariates and out-of-fold scores.

    Scores are per training sd. Hazard ratios and likelihood ratios are stratified by fold, since scores of different
    folds are not comparable; proportional hazards are tested without strata.
    """
    table, design = cohort.table, cohort.design
    adjusted = design.shape[1] > 0
    ratios, tests, assumptions = [], [], []
    blocks = {CLINICAL: design} if adjusted else {}
    for name in cohort.sources:
        risk = repeat.risk[name]
        if not np.ptp(risk) > 0:
            continue
        score = pd.DataFrame({f"{name} {SCORE}": risk}, index=design.index)
        blocks |= {name: score} | (
            {with_clinical(name): pd.concat([design, score], axis=1)} if adjusted else {}
        )
        found = likelihood_ratio(table, design, score, strata=repeat.fold)
        tests.append(
            {
                "added": f"{name} {SCORE}",
                "to": ", ".join(design.columns) or "nothing",
                **found._asdict(),
            }
        )
    for model, columns in blocks.items():
        strata = None if model == CLINICAL else repeat.fold
        ratios.append(hazard_ratios(fit_cox(table, columns, strata=strata)).assign(model=model))
        assumptions.append(
            proportional_hazards(fit_cox(table, columns), table, columns).assign(model=model)
        )
    empty = pd.DataFrame(columns=["model", "covariate"])
    first = [
        pd.concat(parts, ignore_index=True) if parts else empty for parts in (ratios, assumptions)
    ]
    ordered = [
        frame[["model", *(name for name in frame.columns if name != "model")]] for frame in first
    ]
    return (
        ordered[0],
        pd.DataFrame(tests, columns=["added", "to", "statistic", "freedom", "p"]),
        ordered[1],
    )
