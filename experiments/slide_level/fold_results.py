"""Join the results of the folds into out-of-fold predictions of all patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.experiments.slide_level.evaluate import PatientGroups
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.statistics.fold_combination import combine_folds
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel


@dataclass(frozen=True)
class FoldResult:
    """Results of one fold.

    Attributes
    ----------
    fold
        The split.
    panel
        Genes chosen on the training patients of the fold.
    truth
        (M_test, G_fold) measured values.
    predictions
        (M_test, G_fold) predictions by predictor.
    history
        Loss and validation score of each epoch.
    null_r
        (2, R, C, G_fold) r of the R refits on permuted labels in each of the C cohorts that the
        fold tests, and the number of patients behind it. None if there were no refits.
    """

    fold: Fold
    panel: GenePanel
    truth: NDArray[np.float32]
    predictions: dict[str, NDArray[np.float32]]
    history: list[dict[str, float]]
    null_r: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Results of all folds over the union of their genes.

    Attributes
    ----------
    panel
        The G genes that any fold chose.
    patients
        Names of the M tested patients, in the order of the folds.
    groups
        Folds, cohorts and persons of these patients.
    truth
        (M, G) measured values, NaN where the fold of a patient left the gene out.
    predictions
        (M, G) predictions by predictor, NaN likewise.
    history
        Loss and validation score of each epoch, by the name of the fold.
    null_z
        (R, G) combined z of refits on permuted labels, or None.
    """

    panel: GenePanel
    patients: tuple[str, ...]
    groups: PatientGroups
    truth: NDArray[np.float32]
    predictions: dict[str, NDArray[np.float32]]
    history: dict[str, list[dict[str, float]]]
    null_z: NDArray[np.float64] | None


def join_folds(data: CohortData, results: Sequence[FoldResult]) -> OutOfFold:
    """Join the results of all folds of a run."""
    panel = GenePanel(
        tuple(dict.fromkeys(gene for result in results for gene in result.panel.genes))
    )
    patients = tuple(name for result in results for name in result.fold.test)
    donors = {
        name: number
        for number, name in enumerate(dict.fromkeys(data.donors[name] for name in patients))
    }
    groups = PatientGroups(
        fold_of=np.concatenate(
            [np.full(len(result.fold.test), result.fold.index) for result in results]
        ),
        cohort_of=data.cohort_of(patients),
        donor_of=np.array([donors[data.donors[name]] for name in patients]),
    )
    return OutOfFold(
        panel=panel,
        patients=patients,
        groups=groups,
        truth=_over_panel(panel, results, [result.truth for result in results]),
        predictions={
            name: _over_panel(panel, results, [result.predictions[name] for result in results])
            for name in results[0].predictions
        },
        history={f"fold {result.fold.index}": result.history for result in results},
        null_z=_combined_null(panel, results),
    )


def _over_panel(
    panel: GenePanel, results: Sequence[FoldResult], values: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return the rows of all folds over all genes, NaN where a fold left a gene out."""
    blocks = []
    for result, block in zip(results, values, strict=True):
        full = np.full((len(block), len(panel)), np.nan, dtype=np.float32)
        full[:, result.panel.index_in(panel.genes)] = block
        blocks.append(full)
    return np.concatenate(blocks)


def _combined_null(panel: GenePanel, results: Sequence[FoldResult]) -> NDArray[np.float64] | None:
    """Return (R, G) z of each refit, combined over folds and cohorts as that of the model is.

    A gene that has an r in fewer than three folds is NaN.
    """
    by_fold = [result.null_r for result in results if result.null_r is not None]
    if len(by_fold) < len(results):
        return None
    columns = [result.panel.index_in(panel.genes) for result in results]
    # A fold that tests several cohorts has one row for each of them.
    fold_of = np.repeat(np.arange(len(results)), [null.shape[2] for null in by_fold])
    combined = []
    for refit in range(by_fold[0].shape[1]):
        # One row for each fold and cohort, as in combined_r of the model itself.
        r, n = np.full((2, len(fold_of), len(panel)), np.nan)
        for fold, null in enumerate(by_fold):
            cells = np.ix_(fold_of == fold, columns[fold])
            r[cells], n[cells] = null[:, refit]
        combined.append(combine_folds(r, np.nan_to_num(n), fold_of=fold_of).z)
    return np.stack(combined)
