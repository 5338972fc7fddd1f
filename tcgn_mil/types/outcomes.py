"""Survival times of patients for one endpoint, with entry times and covariates."""

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

MIN_EVENTS = 10  # with fewer, a Cox model or a C index has an interval too wide to be of use
MAX_LEVELS = 20  # a text covariate with more levels holds names or dates, not categories
DAYS_PER_YEAR = 365.25  # mean length of a year of the Julian calendar, as in TCGA-CDR

# The name becomes part of two column names in clinical.csv, "<name>_time_days" and "<name>_event".
# Underscores are excluded, so that the name can be read back from these columns.
_ENDPOINT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+-]*")


@dataclass(frozen=True, eq=False)
class SurvivalTable:
    """Survival times of M patients for one endpoint.

    Parameters
    ----------
    endpoint
        Name of the endpoint, for example ``OS`` (overall survival).
    patient_id
        M patient names, all different.
    time_days
        (M,) float64. Days from the start of follow-up to the event, or to the end of follow-up if
        there was no event; above 0.
    event
        (M,) bool. True if the event was observed, False if the patient was censored.
    covariates
        Data frame of M rows whose index equals `patient_id`. It may have no columns.
    entry_days
        (M,) float64, at least 0 and below `time_days`. Day on which the patient came under
        observation (left truncation). None if all patients are observed from day 0.

    Raises
    ------
    InputError
        If an array has the wrong length, a patient is repeated or has no name, or a time is not
        possible.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> patients = ("A", "B", "C")
    >>> table = SurvivalTable(
    ...     "OS",
    ...     patients,
    ...     time_days=np.array([100.0, 250.0, 400.0]),
    ...     event=np.array([True, False, True]),
    ...     covariates=pd.DataFrame(index=list(patients)),
    ... )
    >>> table.take([0, 2]).patient_id
    ('A', 'C')
    >>> table.censor_at(300).event.tolist()
    [True, False, False]
    """

    endpoint: str
    patient_id: tuple[str, ...]
    time_days: NDArray[np.float64]
    event: NDArray[np.bool_]
    covariates: pd.DataFrame
    entry_days: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not _ENDPOINT_NAME.fullmatch(self.endpoint):
            raise InputError(
                f"the endpoint name {self.endpoint!r} cannot be part of a column name",
                fix="use letters and digits, for example OS or PFI",
            )
        count = len(self.patient_id)
        arrays = {"time_days": self.time_days, "event": self.event, "entry_days": self.entry_days}
        wrong = [
            name
            for name, values in arrays.items()
            if values is not None and values.shape != (count,)
        ]
        if wrong or list(self.covariates.index) != list(self.patient_id):
            raise InputError(
                f"{self.endpoint}: {preview(wrong or ['covariates'])} must have one value for each"
                f" of the {count} patients, in the same order"
            )
        if repeated := duplicates(self.patient_id):
            raise InputError(
                f"{self.endpoint}: patient {preview(repeated)} has several rows",
                fix="keep one row for each patient",
            )
        if "" in self.patient_id:
            raise InputError(
                f"{self.endpoint}: a row has no patient_id",
                fix="write the patient's name in that row, or remove the row",
            )
        self._check_times()

    def _check_times(self) -> None:
        if self.event.dtype != np.bool_:
            raise InputError(f"{self.endpoint}: event is {self.event.dtype}, but it must be bool")
        impossible = ~(np.isfinite(self.time_days) & (self.time_days > 0))
        if impossible.any():
            row = int(np.argmax(impossible))
            raise InputError(
                f"{self.endpoint}: patient {self.patient_id[row]} has a time of"
                f" {self.time_days[row]} days, but a time must be finite and above 0",
                fix="correct the time, or remove the patient",
            )
        if self.entry_days is None:
            return
        late = ~((self.entry_days >= 0) & (self.entry_days < self.time_days))
        if late.any():
            row = int(np.argmax(late))
            raise InputError(
                f"{self.endpoint}: patient {self.patient_id[row]} enters at"
                f" {self.entry_days[row]} days and leaves at {self.time_days[row]} days, but entry"
                " must be at least 0 and before the end of follow-up",
                fix="correct the two times, or remove the patient",
            )

    def __len__(self) -> int:
        return len(self.patient_id)

    def take(self, rows: Sequence[int] | NDArray[Any]) -> SurvivalTable:
        """Select patients.

        Parameters
        ----------
        rows
            Row numbers, or an (M,) bool mask. The result has the patients in this order.

        Returns
        -------
        SurvivalTable
            The same endpoint for the selected patients.
        """
        index = np.arange(len(self))[np.asarray(rows)]
        return SurvivalTable(
            self.endpoint,
            tuple(self.patient_id[row] for row in index),
            self.time_days[index],
            self.event[index],
            self.covariates.iloc[index],
            None if self.entry_days is None else self.entry_days[index],
        )

    def censor_at(self, horizon_days: float) -> SurvivalTable:
        """End follow-up at a horizon.

        Patients whose time is longer are censored at the horizon. Patients who enter at the
        horizon or later are removed, because they are never observed before it.

        Parameters
        ----------
        horizon_days
            Days, above 0.

        Returns
        -------
        SurvivalTable
            The same endpoint with times of at most `horizon_days`.

        Raises
        ------
        InputError
            If the horizon is not above 0.
        """
        if not horizon_days > 0:
            raise InputError(
                f"a horizon of {horizon_days} days is not possible",
                fix="give a number of days above 0",
            )
        table = self
        if self.entry_days is not None:
            table = self.take(self.entry_days < horizon_days)
        return dataclasses.replace(
            table,
            time_days=np.minimum(table.time_days, horizon_days),
            event=table.event & (table.time_days <= horizon_days),
        )

    def at_risk(self, times_days: NDArray[np.float64]) -> list[int]:
        """Count the patients under observation at given times.

        Parameters
        ----------
        times_days
            (T,) days.

        Returns
        -------
        list of int
            For each time, the number of patients who have entered and have not left before it.
        """
        entry = np.zeros(len(self)) if self.entry_days is None else self.entry_days
        return [int(((self.time_days >= time) & (entry <= time)).sum()) for time in times_days]

    def check_events(self, *, least: int = MIN_EVENTS) -> None:
        """Check that there are enough events for an analysis.

        Parameters
        ----------
        least
            Smallest number of events that is accepted.

        Raises
        ------
        InputError
            If there are fewer events.
        """
        events = int(self.event.sum())
        if events < least:
            raise InputError(
                f"{self.endpoint}: {len(self)} patients have {events} events, fewer than {least}",
                fix="choose another endpoint or a longer horizon, or add patients",
            )
