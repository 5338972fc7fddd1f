"""Cross-validation folds for survival, each with enough events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tcgn_mil.errors import InputError
from tcgn_mil.folds import make_folds
from tcgn_mil.text import preview
from tcgn_mil.types.arrays import IntArray
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.outcomes import MIN_EVENTS, SurvivalTable

# Names in the training, the validation and the test part.
_Parts = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class SurvivalFold:
    """One fold as row numbers of a cohort.

    Attributes
    ----------
    index
        Number of the fold.
    train, test
        (m,) and (n,) rows of the training and the test patients.
    """

    index: int
    train: IntArray
    test: IntArray


def survival_folds(
    table: SurvivalTable, *, n_folds: int, seed: int, groups: Mapping[str, str] | None = None
) -> list[Fold]:
    """Divide patients into folds, such that each patient is tested once.

    Parameters
    ----------
    table
        Survival times of the patients.
    n_folds
        Number of folds.
    seed
        Seed of the shuffle.
    groups
        Group of each patient, for example the tissue source site, that must stay in one fold.
        Without groups, patients with and without an event are spread over the folds evenly. There
        may be no patient without an event, as in a short series of a deadly disease.

    Raises
    ------
    InputError
        If there are fewer events, or fewer groups, than folds.
    """
    if groups is not None:
        return make_folds(table.patient_id, groups, n_folds=n_folds, seed=seed)
    parts = []
    for kind in (True, False):
        names = [
            name for name, event in zip(table.patient_id, table.event, strict=True) if event == kind
        ]
        if len(names) >= n_folds:
            each = {name: name for name in names}
            folds = make_folds(names, each, n_folds=n_folds, seed=seed)
            parts.append([(fold.train, fold.val, fold.test) for fold in folds])
        elif kind:
            raise InputError(
                f"{table.endpoint}: {len(names)} patients with an event cannot be spread over"
                f" {n_folds} folds",
                fix="use fewer folds",
            )
        else:
            parts.append(_one_each(names, n_folds, seed))
    return [
        Fold(index, *(first + second for first, second in zip(events, censored, strict=True)))
        for index, (events, censored) in enumerate(zip(*parts, strict=True))
    ]


def _one_each(names: Sequence[str], n_folds: int, seed: int) -> list[_Parts]:
    """Return the parts of each fold for fewer names than folds: each is tested in one fold."""
    order = np.random.default_rng(seed).permutation(n_folds)
    tested = dict(zip(names, order.tolist(), strict=False))
    return [
        (
            tuple(name for name in names if tested[name] not in (fold, (fold + 1) % n_folds)),
            tuple(name for name in names if tested[name] == (fold + 1) % n_folds),
            tuple(name for name in names if tested[name] == fold),
        )
        for fold in range(n_folds)
    ]


def fold_rows(folds: Sequence[Fold], table: SurvivalTable) -> list[SurvivalFold]:
    """Return the row numbers of the patients of each fold.

    The validation part belongs to the training patients here, because the penalty is selected by
    folds within them. Patients who are not in the table are passed over.

    Parameters
    ----------
    folds
        Folds of patient names.
    table
        Survival times of the cohort.

    Raises
    ------
    InputError
        If a patient is tested twice, a test part has no event, or a training part has too few.
    """
    row = {name: index for index, name in enumerate(table.patient_id)}
    tested: set[str] = set()
    result = []
    for fold in folds:
        again = sorted(tested & set(fold.test))
        if again:
            raise InputError(
                f"fold {fold.index} tests {preview(again)}, but an earlier fold does so as well",
                fix="put each patient into the test part of one fold only",
            )
        tested |= set(fold.test)
        train, test = (
            np.array([row[name] for name in part if name in row], dtype=np.int64)
            for part in (fold.train + fold.val, fold.test)
        )
        if not table.take(test).event.any():
            raise InputError(
                f"fold {fold.index}: none of its {len(test)} test patients has an event"
                f" ({table.endpoint})",
                fix="use fewer folds, or folds that spread the events",
            )
        try:
            table.take(train).check_events(least=MIN_EVENTS // 2)
        except InputError as error:
            raise InputError(
                f"training part of fold {fold.index}: {error.reason}", fix="use more folds"
            ) from error
        result.append(SurvivalFold(fold.index, train, test))
    return result
