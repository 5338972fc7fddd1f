"""A fold's targets: genes chosen, ranks and scales fitted, on its training patients alone (PROTOCOL, Targets)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.slide_level.cohort import CohortData, rows_of
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.io.expression_file import read_gene_list
from tcgn_mil.targets.bulk import RankNormaliser, expressed_genes, standardise_within
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.units import ExpressionUnit

_LEAST_OF_COHORT = 5


@dataclass(frozen=True)
class FoldTargets:
    """Panel, scaler and (M, G_fold) values in the training unit for all patients, fitted on training patients."""

    panel: GenePanel
    scaler: TargetScaler
    values: NDArray[np.float32]

    @property
    def scaled(self) -> NDArray[np.float32]:
        """(M, G_fold) standardised."""
        return self.scaler.scale(self.values)


def fold_targets(config: FinetuneConfig, data: CohortData, fold: Fold) -> FoldTargets:
    """Choose genes and fit the target transform on the fold's training patients alone.

    Raises
    ------
    InputError
        If a gene of the list is not in the cohort, no gene is expressed in enough training patients, or a cohort has
        too few training patients to be standardised within.
    """
    _check_cohorts(config, data, fold)
    return targets_of(data, fold, _columns(config, data, fold), data.values)


def targets_of(
    data: CohortData, fold: Fold, columns: NDArray[np.int64], values: NDArray[np.float32]
) -> FoldTargets:
    """Targets of chosen genes from `values` (M, G_all), which may be permuted over patients of a cohort."""
    train, cohort_of = rows_of(data, fold.train), data.cohort_of(data.patients)
    values = values[:, columns]
    if data.unit.needs_ranks:
        values = _ranked_within(values, train, cohort_of)
    elif data.cohorts:
        values = standardise_within(values, train, cohort_of)
    panel = GenePanel(tuple(data.genes[i] for i in columns))
    return FoldTargets(panel, TargetScaler.fit(values[train], transform=data.training_unit), values)


def _ranked_within(
    values: NDArray[np.float32], train: NDArray[np.int64], cohort_of: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Normal scores among a cohort's training patients; among all of them, for a cohort that has none."""
    out = np.empty_like(values)
    for cohort in np.unique(cohort_of):
        own = train[cohort_of[train] == cohort]
        out[cohort_of == cohort] = RankNormaliser(values[own if len(own) else train])(
            values[cohort_of == cohort]
        )
    return out


def _check_cohorts(config: FinetuneConfig, data: CohortData, fold: Fold) -> None:
    counts = Counter(data.cohorts[name] for name in fold.train) if data.cohorts else {}
    for cohort, count in sorted(counts.items()):
        if count < _LEAST_OF_COHORT:
            raise InputError(
                f"fold {fold.index} trains on {count} patients of {cohort}, too few to standardise its expression by"
                f" ({_LEAST_OF_COHORT} are needed)",
                path=config.cohort,
                fix="use fewer folds, leave these patients out, or set cohorts=pooled",
            )


def _columns(config: FinetuneConfig, data: CohortData, fold: Fold) -> NDArray[np.int64]:
    if config.genes is not None:
        return read_gene_list(config.genes).index_in(data.genes, path=config.cohort)
    columns = expressed_genes(
        data.values[rows_of(data, fold.train)],
        min_fraction=config.min_expressed,
        floor=ExpressionUnit.floor_of(data.unit.training_unit),
    )
    if not columns.size:
        raise InputError(
            f"no gene is expressed in {config.min_expressed:.0%} of the training patients of fold {fold.index}",
            path=config.cohort,
            fix="lower min_expressed, or check the declared unit",
        )
    return columns
