"""Refit the model of a fold on permuted labels, for the null distribution of the correlations.

Labels are permuted over patients and the model is fitted again, since permuting the predictions of
one fit is not valid (docs/protocol.md, section Predictable genes).

A refit needs no other one, so each of several processes of torchrun makes some of the refits of a
fold by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.batches.patient_bags import PatientBags
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.experiments.slide_level.inputs.targets import FoldTargets, targets_of
from tcgn_mil.io.atomic import read_array, write_array
from tcgn_mil.models.slide_regressor import SlideRegressor
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.statistics.out_of_fold import fold_correlations
from tcgn_mil.training.agreement import from_each, from_first
from tcgn_mil.training.label_permutations import permutations
from tcgn_mil.training.permutation_null import NullBags, Refit, refit_predictions
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel
from tcgn_mil.types.processes import Processes

# Yields the (M_test, G) predictions of each refit in order, given a function from the number of a
# refit to its permuted targets, and the numbers of the refits.
Refits = Callable[[Callable[[int], FoldTargets], Sequence[int]], Iterator[NDArray[np.float32]]]


def permuted_correlations(
    config: FinetuneConfig,
    data: CohortData,
    fold: Fold,
    panel: GenePanel,
    refits: Refits,
    path: Path,
) -> NDArray[np.float32]:
    """Return the correlations of the test patients in refits on permuted labels.

    Parameters
    ----------
    config
        Config of the run, which gives the number of refits R and the seed.
    data
        The cohort.
    fold
        The split.
    panel
        The G genes of the fold.
    refits
        Fits the model to permuted targets and predicts the test patients.
    path
        File that keeps the result, so that a run which was killed does not refit again. The first
        process alone reads and writes it.

    Returns
    -------
    (2, R, C, G) r of the test patients of each of their C cohorts, and the number of patients
    behind it.
    """
    if not from_first(path.is_file):
        processes = Processes.launched()
        numbers = range(processes.rank, config.refits, processes.count)
        own = _correlations(config, data, fold, panel, refits, numbers) if numbers else {}
        every = {number: part for each in from_each(own) for number, part in each.items()}
        if processes.is_first:
            ordered = [every[number] for number in range(config.refits)]
            write_array(path, np.stack(ordered, axis=1).astype(np.float32))
    return from_first(lambda: read_array(path))


def _correlations(
    config: FinetuneConfig,
    data: CohortData,
    fold: Fold,
    panel: GenePanel,
    refits: Refits,
    numbers: Sequence[int],
) -> dict[int, NDArray[np.float64]]:
    """Return (2, C, G) r and number of patients of some refits, by the number of the refit."""
    columns = panel.index_in(data.genes)
    # Labels change places only within a site (where sites are kept together) and a cohort: sites
    # and cohorts differ in expression, and permuting across them would also remove that difference.
    site_of = data.sites if config.group_by == "site" else {}
    strata = {name: (site_of.get(name, ""), data.cohorts.get(name, "")) for name in data.patients}
    orders = permutations(data.patients, data.donors, strata, count=config.refits, seed=config.seed)
    test, cohort_of = data.rows_of(fold.test), data.cohort_of(fold.test)
    # The permuted truth of a refit is kept until the refit has made its predictions.
    truth: dict[int, NDArray[np.float32]] = {}

    def permuted(number: int) -> FoldTargets:
        # The transform of the targets is fitted anew, as it is for the model itself.
        targets = targets_of(data, fold, columns, data.values[orders[number]])
        truth[number] = targets.values[test]
        return targets

    return {
        number: np.stack(fold_correlations(truth.pop(number), values, cohort_of))
        for number, values in zip(numbers, refits(permuted, numbers), strict=True)
    }


def network_refits(
    config: FinetuneConfig,
    data: CohortData,
    fold: Fold,
    bags: Mapping[str, PatientBags],
    new_model: Callable[[FoldTargets, int], SlideRegressor],
    training: TrainingConfig,
) -> Refits:
    """Return the refits of an attention network.

    Parameters
    ----------
    config, data, fold
        As in :func:`permuted_correlations`.
    bags
        Bags of the training, validation and test patients.
    new_model
        Makes a model before training from permuted targets and a seed.
    training
        Training settings of the fold.
    """
    # Training targets are by bag (a patient can have several), validation targets by patient.
    train, val = data.rows_of(fold.train)[bags["train"].owner], data.rows_of(fold.val)

    def refits(
        permuted: Callable[[int], FoldTargets], numbers: Sequence[int]
    ) -> Iterator[NDArray[np.float32]]:
        def start(index: int) -> Refit:
            number = numbers[index]
            targets = permuted(number)
            return Refit(
                new_model(targets, training.seed * 1000 + number),
                targets.scaled[train],
                targets.scaled[val],
            )

        return refit_predictions(
            start,
            len(numbers),
            NullBags(**bags),
            training,
            max_tiles=config.max_tiles,
            description=f"fold {fold.index}, refits",
        )

    return refits
