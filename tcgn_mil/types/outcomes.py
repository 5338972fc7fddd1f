"""clinical.csv: times to death or progression, one row a patient, several endpoints side by side.

A wide CSV that lifelines takes as it is: ``patient_id``; for each endpoint ``<name>_time_days`` and ``<name>_event``
(1 = event, 0 = censored), both empty for a patient without it; ``entry_days`` where patients came under observation
late (left truncation); then covariates as given. What made it stands beside it in ``clinical.json``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.text import duplicates, preview

if TYPE_CHECKING:
    import pandas as pd

if TYPE_CHECKING:
    import pandas as pd


_ENDPOINT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+-]*")


@dataclass(frozen=True, eq=False)
class SurvivalTable:
    """One endpoint of M patients.

    Attributes
    ----------
    endpoint
        Its name, e.g. ``OS``.
    patient_id
        M names, each once.
    time_days
        (M,) float64, above 0: days to the event or to the end of follow-up.
    event
        (M,) bool, True where the event was seen.
    covariates
        M rows, index ``patient_id``; no column where none was asked for.
    entry_days
        (M,) float64, at least 0 and below ``time_days``: when observation began; None where all begin at 0.
    """

    endpoint: str
    patient_id: tuple[str, ...]
    time_days: NDArray[np.float64]
    event: NDArray[np.bool_]
    covariates: pd.DataFrame
    entry_days: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        _check_endpoint(self.endpoint)
        count = len(self.patient_id)
        shapes = {"time_days": self.time_days, "event": self.event, "entry_days": self.entry_days}
        wrong = [
            name
            for name, values in shapes.items()
            if values is not None and values.shape != (count,)
        ]
        if wrong or list(self.covariates.index) != list(self.patient_id):
            raise InputError(
                f"{self.endpoint}: {preview(wrong or ['covariates'])} do not have {count} patients' rows"
            )
        if repeated := duplicates(self.patient_id):
            raise InputError(
                f"{self.endpoint}: patient {preview(repeated)} has several rows",
                fix="keep one row each",
            )
        if "" in self.patient_id:
            raise InputError(
                f"{self.endpoint}: a row has no patient_id", fix="name it, or remove it"
            )
        self._check_times()

    def _check_times(self) -> None:
        if self.event.dtype != np.bool_:
            raise InputError(f"{self.endpoint}: event is no bool array")
        bad = ~(np.isfinite(self.time_days) & (self.time_days > 0))
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(
                f"{self.endpoint}: patient {self.patient_id[row]} has a time of {self.time_days[row]} days",
                fix="times are finite and above 0; drop the patient",
            )
        if self.entry_days is None:
            return
        late = ~((self.entry_days >= 0) & (self.entry_days < self.time_days))
        if late.any():
            row = int(np.argmax(late))
            raise InputError(
                f"{self.endpoint}: patient {self.patient_id[row]} enters at {self.entry_days[row]} days and leaves at"
                f" {self.time_days[row]}",
                fix="an entry is at least 0 and before the end; drop the patient",
            )

    def __len__(self) -> int:
        return len(self.patient_id)


def _check_endpoint(name: str) -> None:
    if not _ENDPOINT_NAME.fullmatch(name):
        raise InputError(
            f"endpoint {name!r} cannot name columns", fix="use letters and digits, e.g. OS or PFI"
        )


MIN_EVENTS = 10


def take(table: SurvivalTable, rows: Sequence[int] | NDArray[Any]) -> SurvivalTable:
    """The patients at `rows`, or where a (M,) mask is True, in that order."""
    index = np.arange(len(table))[np.asarray(rows)]
    return SurvivalTable(
        table.endpoint,
        tuple(table.patient_id[row] for row in index),
        table.time_days[index],
        table.event[index],
        table.covariates.iloc[index],
        None if table.entry_days is None else table.entry_days[index],
    )


def censor_at(table: SurvivalTable, horizon_days: float) -> SurvivalTable:
    """Follow-up ends at the horizon: later events are not seen. Patients who enter at or after it are left out.

    Raises
    ------
    InputError
        If the horizon is not above 0.
    """
    if not horizon_days > 0:
        raise InputError(f"a horizon of {horizon_days} days", fix="give a number of days above 0")
    if table.entry_days is not None:
        table = take(table, table.entry_days < horizon_days)
    return dataclasses.replace(
        table,
        time_days=np.minimum(table.time_days, horizon_days),
        event=table.event & (table.time_days <= horizon_days),
    )


def check_events(table: SurvivalTable, *, least: int = MIN_EVENTS) -> None:
    """Refuse a cohort with too few events to say anything."""
    events = int(table.event.sum())
    if events < least:
        raise InputError(
            f"{table.endpoint}: {len(table)} patients have {events} events, fewer than {least}",
            fix="take another endpoint, a longer horizon, or more patients",
        )
