"""Score every patient by survival models that did not see it, one model per fold.

The models stand side by side: clinical covariates, each source of expression, and both together
(docs/protocol.md, section Survival).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.experiments.survive.cohort import SurvivalCohort
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.experiments.survive.sources import CLINICAL
from tcgn_mil.progress import Progress
from tcgn_mil.survival.folds import SurvivalFold, fold_rows
from tcgn_mil.survival.risk_score import FoldRisk, combined_risk, covariate_risk, gene_risk
from tcgn_mil.types.folds import Fold


@dataclass(frozen=True, eq=False)
class CvRepeat:
    """One division of the cohort into folds, with the scores of every model.

    Attributes
    ----------
    seed
        Seed of the folds, or the first seed of the config if they came from a file.
    fold
        (M,) fold that tests each patient.
    folds
        Rows of the training and the test patients of each fold.
    models
        Risk scores of each model, one :class:`FoldRisk` per fold.
    risk
        (M,) out-of-fold score by model, in standard deviations of the training patients; 0 is the
        median of the training patients.
    """

    seed: int
    fold: NDArray[np.int64]
    folds: tuple[SurvivalFold, ...]
    models: dict[str, tuple[FoldRisk, ...]]
    risk: dict[str, NDArray[np.float64]]


def with_clinical(source: str) -> str:
    """Return the name of the model on covariates and a gene score."""
    return f"{CLINICAL} + {source}"


def cross_validate(
    config: SurviveConfig, cohort: SurvivalCohort, folds: Mapping[int, Sequence[Fold]]
) -> list[CvRepeat]:
    """Fit every model in every fold of every seed, and score the test patients.

    Parameters
    ----------
    config
        Settings of the models.
    cohort
        The M patients.
    folds
        Folds by seed.

    Raises
    ------
    InputError
        If a fold cannot be used, for example because no test patient has an event. All folds are
        checked before the first model is fitted.
    """
    rows = {seed: fold_rows(parts, cohort.table) for seed, parts in folds.items()}
    repeats = []
    with Progress(
        total=sum(map(len, rows.values())), desc="folds", unit="fold", leave=False
    ) as bar:
        for seed, parts in rows.items():
            fitted = []
            for part in parts:
                fitted.append(_fit_fold(config, cohort, part, seed))
                bar.update()
            repeats.append(_join_folds(seed, parts, fitted, len(cohort.table)))
    return repeats


def _fit_fold(
    config: SurviveConfig, cohort: SurvivalCohort, fold: SurvivalFold, seed: int
) -> dict[str, FoldRisk]:
    train, where = cohort.table.take(fold.train), f" in the training part of fold {fold.index}"
    inside, held_out = cohort.design.iloc[fold.train], cohort.design.iloc[fold.test]
    models = {}
    if cohort.design.shape[1]:
        models[CLINICAL] = covariate_risk(train, inside, held_out, where=where)
    for name, source in cohort.sources.items():
        values = source.values
        models[name] = gene_risk(
            train, values[fold.train], values[fold.test], config.risk, seed=seed, sets=source.sets
        )
        # The gene score enters the joint model as one covariate beside the clinical ones. It is not
        # fitted again, so that it is the same in both models.
        if cohort.design.shape[1]:
            models[with_clinical(name)] = combined_risk(
                train, inside, held_out, models[name], where=where
            )
    return models


def _join_folds(
    seed: int, folds: Sequence[SurvivalFold], fitted: Sequence[dict[str, FoldRisk]], patients: int
) -> CvRepeat:
    fold_of = np.full(patients, -1, dtype=np.int64)
    risk = {name: np.zeros(patients) for name in fitted[0]}
    for fold, scores in zip(folds, fitted, strict=True):
        fold_of[fold.test] = fold.index
        for name, score in scores.items():
            risk[name][fold.test] = score.test
    models = {name: tuple(scores[name] for scores in fitted) for name in fitted[0]}
    return CvRepeat(seed, fold_of, tuple(folds), models, risk)
