"""Folds for survival: events spread evenly, and no fold without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.folds import make_folds
from tcgn_mil.text import preview
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.outcomes import MIN_EVENTS, SurvivalTable


@dataclass(frozen=True, eq=False)
class SurvivalFold:
    """Rows of a cohort that one model trains on, (m,), and that it is tested on, (n,)."""

    index: int
    train: NDArray[np.int64]
    test: NDArray[np.int64]


def survival_folds(
    table: SurvivalTable, *, n_folds: int, seed: int, groups: Mapping[str, str] | None = None
) -> list[Fold]:
    """Each patient tested once. Events and the rest are dealt out alike, unless `groups` (sites) stay together.

    Raises
    ------
    InputError
        If there are fewer events (or groups) than folds.
    """
    if groups is not None:
        return make_folds(table.patient_id, groups, n_folds=n_folds, seed=seed)
    parts = []
    for kind in (True, False):
        names = [
            name for name, event in zip(table.patient_id, table.event, strict=True) if event == kind
        ]
        if len(names) < n_folds:
            what = "events" if kind else "patients without an event"
            raise InputError(
                f"{n_folds} folds of {len(names)} {what} leave a fold without",
                fix="use fewer folds",
            )
        parts.append(make_folds(names, {name: name for name in names}, n_folds=n_folds, seed=seed))
    return [
        Fold(
            first.index,
            first.train + second.train,
            first.val + second.val,
            first.test + second.test,
        )
        for first, second in zip(*parts, strict=True)
    ]


def fold_rows(folds: Sequence[Fold], table: SurvivalTable) -> list[SurvivalFold]:
    """Folds as rows; training and validation parts train, since the penalty is chosen by folds inside them.

    Raises
    ------
    InputError
        If a patient is tested twice, a test part has no event, or a training part too few.
    """
    row = {name: index for index, name in enumerate(table.patient_id)}
    tested: set[str] = set()
    found = []
    for fold in folds:
        again = sorted(tested & set(fold.test))
        if again:
            raise InputError(
                f"fold {fold.index} tests {preview(again)} again",
                fix="test each patient in one fold",
            )
        tested |= set(fold.test)
        train, test = (
            [row[name] for name in part if name in row]
            for part in (fold.train + fold.val, fold.test)
        )
        held_out = table.take(np.array(test, dtype=np.int64))
        if not held_out.event.any():
            raise InputError(
                f"fold {fold.index}: none of its {len(held_out)} test patients has an event ({table.endpoint})",
                fix="use fewer folds, or folds that spread the events",
            )
        try:
            table.take(np.array(train, dtype=np.int64)).check_events(least=MIN_EVENTS // 2)
        except InputError as error:
            raise InputError(
                f"training part of fold {fold.index}: {error.reason}", fix="use more folds"
            ) from error
        found.append(
            SurvivalFold(
                fold.index, np.array(train, dtype=np.int64), np.array(test, dtype=np.int64)
            )
        )
    return found
