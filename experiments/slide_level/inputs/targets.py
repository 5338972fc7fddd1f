"""Choose the genes of a fold and scale its targets, fitted on its training patients alone.

See docs/protocol.md, section Targets. Anything that is fitted, even a mean, would otherwise carry
information from the test patients into training.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.io.gene_list import read_gene_list
from tcgn_mil.regression.rank_normaliser import RankNormaliser
from tcgn_mil.targets.bulk import expressed_genes, standardise_within
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.units import ExpressionUnit

_FEWEST_PATIENTS_OF_COHORT = 5


@dataclass(frozen=True)
class FoldTargets:
    """Targets of all patients of a cohort, with genes and scales of one fold.

    Attributes
    ----------
    panel
        The G genes of the fold.
    scaler
        Mean and standard deviation of each gene in the training patients.
    values
        (M, G) float32 in the training unit, NaN where a value is missing.
    """

    panel: GenePanel
    scaler: TargetScaler
    values: NDArray[np.float32]

    @property
    def scaled(self) -> NDArray[np.float32]:
        """(M, G) standardised values."""
        return self.scaler.scale(self.values)


def fold_targets(config: FinetuneConfig, data: CohortData, fold: Fold) -> FoldTargets:
    """Choose genes and fit the transform of the targets on the training patients of a fold.

    Raises
    ------
    InputError
        If the cohort lacks a gene of the list, if no gene is expressed in enough training
        patients, or if a cohort has too few training patients to be standardised within itself.
    """
    _check_cohorts(config, data, fold)
    return targets_of(data, fold, _columns(config, data, fold), data.values)


def targets_of(
    data: CohortData, fold: Fold, columns: NDArray[np.int64], values: NDArray[np.float32]
) -> FoldTargets:
    """Fit the transform of the targets for genes that are already chosen.

    Parameters
    ----------
    data
        The cohort.
    fold
        Split whose training patients are used.
    columns
        (G,) columns of the chosen genes in `values`.
    values
        (M, all genes) expression. Refits on permuted labels give permuted rows.
    """
    train, cohort_of = data.rows_of(fold.train), data.cohort_of(data.patients)
    values = values[:, columns]
    # Published z-scores have tails up to 10,000, so that they are replaced by normal scores of
    # their ranks among the training patients.
    if data.unit.needs_ranks:
        values = _ranked_within(values, train, cohort_of)
    elif data.cohorts:
        values = standardise_within(values, train, cohort_of)
    panel = GenePanel(tuple(data.genes[i] for i in columns))
    return FoldTargets(panel, TargetScaler.fit(values[train], transform=data.training_unit), values)


def _ranked_within(
    values: NDArray[np.float32], train: NDArray[np.int64], cohort_of: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return normal scores of ranks among the training patients of the same cohort.

    A cohort without training patients is ranked among all training patients.
    """
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
        if count < _FEWEST_PATIENTS_OF_COHORT:
            raise InputError(
                f"fold {fold.index} trains on {count} patients of {cohort}, too few to standardise"
                f" its expression by ({_FEWEST_PATIENTS_OF_COHORT} are needed)",
                path=config.cohort,
                fix="use fewer folds, remove these patients, or set cohorts=pooled",
            )


def _columns(config: FinetuneConfig, data: CohortData, fold: Fold) -> NDArray[np.int64]:
    """Return the columns of the genes of the list, or of those expressed in enough patients."""
    if config.genes is not None:
        return read_gene_list(config.genes).index_in(data.genes, path=config.cohort)
    columns = expressed_genes(
        data.values[data.rows_of(fold.train)],
        min_fraction=config.min_expressed,
        floor=ExpressionUnit.floor_of(data.unit.training_unit),
    )
    if not columns.size:
        raise InputError(
            f"no gene is expressed in {config.min_expressed:.0%} of the training patients of fold"
            f" {fold.index}",
            path=config.cohort,
            fix="lower min_expressed, or check the unit that the cohort declares",
        )
    return columns
